//! A soak: random deploys, splits, changes of tags, kills of instances and of haar itself, under constant traffic.
//!
//! What must hold, however the dice fall:
//!
//! - An answer is the right one, whole and in order: short requests, streams, WebSockets.
//! - What was answered was served: the program has written a line for it, once. What is not safe to repeat is never
//!   given to the program twice, answered or not.
//! - Deploys, splits and tags make no request fail.
//! - A request fails only if it was under way when its instance or haar was killed.
//! - While haar is away a connection is not refused; it waits, and is answered when haar is back.
//!
//! It lasts `HAAR_SOAK_SECONDS` (40), and begins with a seed that it prints and takes from `HAAR_SOAK_SEED`.
//! `clients` has the traffic, `weather` what happens to it, `ledger` the reckoning.

mod clients;
mod ledger;
mod weather;

use std::{
    io::Write,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tests::{Haar, instances_run, skipped_for};

use self::ledger::{Disruption, Request};

/// What clients and weather share.
struct Soak {
    haar: Haar,
    host: String,
    image: String,
    over: AtomicBool,
    requests: Mutex<Vec<Request>>,
    disruptions: Mutex<Vec<Disruption>>,
    /// Programs that were killed and not yet seen dead, and when they were last seen alive.
    dying: Mutex<Vec<(u32, Duration)>>,
    began: Instant,
}

/// Numbers that follow from a seed: xorshift, by Marsaglia.
struct Dice(u64);

impl Dice {
    /// Dice of their own for a part of the soak.
    fn of(seed: u64, part: u64) -> Dice {
        Dice((seed ^ part.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pause(&mut self, from: u64, to: u64) {
        std::thread::sleep(Duration::from_millis(from + self.roll(to - from)));
    }
}

impl Soak {
    fn new() -> Option<Soak> {
        let haar = Haar::start();
        if !instances_run(&haar) {
            return None;
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/soak");
        let made =
            crate::deploy::deployed(crate::deploy::deploy(&haar, &folder, &["--name", weather::SERVICE]));
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        Some(Soak {
            host: text("url").trim_start_matches("http://").to_owned(),
            image: text("image"),
            haar,
            over: AtomicBool::new(false),
            requests: Mutex::default(),
            disruptions: Mutex::default(),
            dying: Mutex::default(),
            began: Instant::now(),
        })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Says something past the harness, which hides what passing tests print.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[test]
fn nothing_is_lost_whatever_the_weather() {
    let seconds = number("HAAR_SOAK_SECONDS").unwrap_or(40);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = number("HAAR_SOAK_SEED").unwrap_or(now.as_nanos() as u64);
    let Some(soak) = Soak::new() else { return };
    say(&format!("a soak of {seconds} s with HAAR_SOAK_SEED={seed}"));
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for client in 0..clients::COUNT {
            let soak = &soak;
            scope.spawn(move || clients::ask_until_over(soak, client, Dice::of(seed, client + 2)));
        }
        scope.spawn(|| weather::note_deaths(&soak));
        let weather = scope.spawn(|| weather::blow_until(&soak, end, Dice::of(seed, 1)));
        let done = weather.join();
        soak.over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    let kinds = ledger::reckon(&soak);
    if kinds.instances == 0 {
        skipped_for("the soak killed no instance: their processes are not this user's");
    }
    say(&kinds.to_string());
}
