//! The autoscaler in simulated time: each test is a day in the life of a revision, to the millisecond.

use std::collections::VecDeque;

use super::*;

/// Tenths of seconds at which a crash-looper is started.
const BEGUN: [u128; 16] = [1, 5, 18, 41, 84, 167, 330, 653, 1256, 1859, 2462, 3065, 3668, 4271, 4874, 5477];

const STEP: Duration = Duration::from_millis(100);

/// A revision whose requests take a fixed time and whose instances take a fixed time to start.
struct Sim {
    scaler: Scaler,
    backoff: Backoff,
    now: Duration,
    concurrency: u32,
    max: u32,
    min: u32,
    start_takes: Duration,
    crashes: bool,
    /// Whether instances that have started get no new requests from then on.
    sick: bool,
    /// How many of those that were started last get no new requests.
    away: Away,
    ready: Vec<Duration>,
    /// When starts began.
    begun: Vec<Duration>,
    starting: VecDeque<Duration>,
    requests: u32,
    /// How many CPUs so many instances use for so many requests.
    cpu: fn(u32, u32) -> f64,
    busy_at: Duration,
    desired: u32,
    /// Everything worth asserting.
    starts: u32,
    stops: u32,
    peak: u32,
    /// How often growing became shrinking or the other way round.
    turns: u32,
    last: Option<Turn>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Up,
    Down,
}

impl Sim {
    fn new(concurrency: u32) -> Self {
        Sim {
            scaler: Scaler::new(Tuning::default()),
            backoff: Backoff::default(),
            now: Duration::ZERO,
            concurrency,
            max: 100,
            min: 0,
            start_takes: Duration::from_millis(300),
            crashes: false,
            sick: false,
            away: Away::default(),
            ready: Vec::new(),
            begun: Vec::new(),
            starting: VecDeque::new(),
            requests: 0,
            cpu: |_, _| 0.0,
            busy_at: Duration::ZERO,
            desired: 0,
            starts: 0,
            stops: 0,
            peak: 0,
            turns: 0,
            last: None,
        }
    }

    /// Lets time pass with this many requests running or waiting, given as a function of the seconds passed.
    fn run(&mut self, seconds: u32, load: impl Fn(f64) -> u32) {
        let begun = self.now;
        let end = begun + Duration::from_secs(seconds.into());
        while self.now < end {
            self.now += STEP;
            self.step(load((self.now - begun).as_secs_f64()));
        }
    }

    fn step(&mut self, requests: u32) {
        if requests > 0 || self.requests > 0 {
            self.busy_at = self.now;
        }
        self.requests = requests;
        self.scaler.requests.set(self.now, u64::from(requests));
        self.finish_starts();
        // Demand is met at once, averages are looked at every second: as the revision does it.
        let mut wanted = replacing(requests, self.concurrency, self.away).min(self.max);
        if self.now.subsec_millis() == 0 {
            let used = (self.cpu)(self.ready.len() as u32, requests);
            self.scaler.cpu.set(self.now, (used * 1000.0) as u64);
            let decision = self.decide();
            self.desired = decision.desired;
            wanted = wanted.max(decision.wanted);
        }
        while self.have() < wanted && self.backoff.wait(self.now).is_none() {
            self.starting.push_back(self.now + self.start_takes);
            self.starts += 1;
            self.begun.push(self.now);
            self.turn(Turn::Up);
        }
        if self.now.subsec_millis() == 0 {
            self.retire(self.desired);
        }
        self.peak = self.peak.max(self.have());
        assert!(self.have() <= self.max, "never more than the maximum");
    }

    fn turn(&mut self, turn: Turn) {
        if self.last.replace(turn).is_some_and(|before| before != turn) {
            self.turns += 1;
        }
    }

    fn have(&self) -> u32 {
        (self.ready.len() + self.starting.len()) as u32
    }

    fn finish_starts(&mut self) {
        while self.starting.front().is_some_and(|at| *at <= self.now) {
            self.starting.pop_front();
            match self.crashes || self.sick {
                true => self.backoff.failed(self.now),
                false => self.backoff.succeeded(),
            }
            if !self.crashes {
                self.ready.push(self.now);
                self.away.instances += u32::from(self.sick);
            }
        }
        // Requests are spread over those that are to stay, and go to others only when they do not fit.
        let busy = at_once(self.requests, self.concurrency).max(self.desired.min(self.requests)) as usize;
        for used in self.ready.iter_mut().take(busy) {
            *used = self.now;
        }
    }

    fn decide(&mut self) -> Decision {
        let facts = Facts {
            requests: self.requests,
            concurrency: self.concurrency,
            cpus: 1.0,
            min: self.min,
            max: self.max,
            have: self.have(),
            away: self.away,
            idle: (self.requests == 0).then(|| self.now - self.busy_at),
            idle_after: Duration::from_secs(30),
            cpu: Cpu::DuringRequests,
        };
        self.scaler.decide(self.now, &facts)
    }

    fn retire(&mut self, desired: u32) {
        let idle: Vec<_> = self.ready.iter().map(|used| Some(self.now - *used)).collect();
        for place in retire(&idle, desired.max(self.min), Duration::from_secs(30)) {
            self.ready.remove(place);
            self.away.instances = self.away.instances.saturating_sub(1);
            self.stops += 1;
            self.turn(Turn::Down);
        }
    }
}

#[test]
fn a_step_is_met_at_once_then_given_headroom_and_taken_back_when_it_ends() {
    let mut sim = Sim::new(10);
    sim.run(1, |_| 60);
    assert_eq!(sim.have(), 6, "60 requests at 10 an instance, without delay");
    sim.run(119, |_| 60);
    assert_eq!(sim.have(), 10, "used to 60 % on average");
    sim.run(29, |_| 0);
    assert_eq!(sim.have(), 10, "kept while it may come back");
    sim.run(3, |_| 0);
    assert_eq!((sim.have(), sim.stops), (0, 10), "30 s after the last request all are gone");
}

#[test]
fn a_ramp_is_followed_without_taking_anything_back() {
    let mut sim = Sim::new(10);
    sim.run(100, |t| t as u32);
    assert_eq!(sim.stops, 0);
    assert_eq!(
        sim.have(),
        15,
        "60 % for the 90 of the last panic; the mean of the last minute would want 12"
    );
    sim.run(120, |_| 100);
    assert_eq!((sim.have(), sim.stops, sim.turns), (17, 0, 0), "100 requests at 60 % of 10");
}

#[test]
fn a_short_burst_starts_what_its_requests_need_and_no_more() {
    let mut sim = Sim::new(80);
    sim.run(1, |t| if t <= 0.5 { 1000 } else { 0 });
    sim.run(20, |_| 0);
    assert_eq!((sim.starts, sim.stops), (13, 0));
    sim.run(12, |_| 0);
    assert_eq!((sim.starts, sim.stops), (13, 13));
}

#[test]
fn a_thundering_herd_never_exceeds_the_maximum() {
    let mut sim = Sim::new(1);
    sim.max = 7;
    sim.run(120, |t| if t % 20.0 < 10.0 { 5000 } else { 0 });
    assert_eq!((sim.peak, sim.starts, sim.stops), (7, 7, 0));
}

#[test]
fn a_sinusoid_does_not_thrash() {
    let mut sim = Sim::new(10);
    // 20 to 80 requests, up and down once a minute, for ten minutes.
    sim.run(600, |t| (50.0 + 30.0 * (t * std::f64::consts::TAU / 60.0).sin()) as u32);
    // The first rise is met as if it went on; then what the mean needs is kept, and that is enough for the peaks.
    assert_eq!((sim.peak, sim.starts, sim.stops, sim.have(), sim.turns), (14, 14, 5, 9, 1));
}

#[test]
fn a_load_that_trembles_at_a_boundary_moves_nothing() {
    let mut sim = Sim::new(10);
    sim.run(120, |_| 60);
    let before = sim.starts;
    // 60 requests are 10 instances at 60 %; a little more are 11.
    sim.run(600, |t| if t as u32 % 14 < 7 { 61 } else { 59 });
    assert!(
        sim.starts - before <= 1 && sim.turns <= 1,
        "{} starts, {} turns",
        sim.starts - before,
        sim.turns
    );
}

#[test]
fn one_steady_request_holds_one_instance() {
    for concurrency in [1, 80] {
        let mut sim = Sim::new(concurrency);
        sim.run(300, |_| 1);
        assert_eq!((sim.have(), sim.starts, sim.stops), (1, 1, 0));
    }
}

#[test]
fn a_slow_starter_is_not_started_again_and_again() {
    let mut sim = Sim::new(10);
    sim.start_takes = Duration::from_secs(20);
    sim.run(19, |_| 10);
    assert_eq!((sim.starts, sim.ready.len()), (1, 0));
    sim.run(30, |_| 10);
    assert_eq!((sim.starts, sim.ready.len()), (1, 1));
}

#[test]
fn a_crash_looper_is_tried_less_and_less_often() {
    let mut sim = Sim::new(10);
    sim.crashes = true;
    sim.run(600, |_| 10);
    let begun: Vec<_> = sim.begun.iter().map(|at| at.as_millis() / 100).collect();
    // Each fails after 0.3 s; then 0.1, 1, 2, 4, 8, 16, 32 s of pause, and 60 s from then on.
    assert_eq!(begun, BEGUN);
    assert!(sim.backoff.is_broken(sim.now), "requests are refused meanwhile");
    sim.crashes = false;
    sim.run(61, |_| 10);
    assert_eq!(sim.ready.len(), 1, "it recovers by itself");
}

#[test]
fn a_failing_start_holds_up_no_instance_that_runs() {
    let mut sim = Sim::new(10);
    sim.run(10, |_| 10);
    sim.crashes = true;
    sim.run(60, |_| 60);
    assert_eq!(sim.ready.len(), 1, "what runs goes on");
    sim.crashes = false;
    sim.run(61, |_| 60);
    assert_eq!(sim.ready.len(), 10);
}

#[test]
fn what_is_away_is_replaced_while_there_is_demand_and_goes_first() {
    let mut sim = Sim::new(10);
    sim.min = 3;
    sim.run(10, |_| 10);
    sim.away.instances = 1;
    sim.run(30, |_| 10);
    assert_eq!(sim.have(), 3, "those that are there can take what there is");
    let mut sim = Sim::new(10);
    sim.run(10, |_| 10);
    assert_eq!(sim.have(), 1);
    sim.away.instances = 1;
    sim.run(20, |_| 10);
    assert_eq!((sim.have(), sim.starts), (2, 2), "one in its place, and only one");
    sim.away.instances = 0;
    sim.run(60, |_| 10);
    assert_eq!((sim.have(), sim.stops, sim.turns), (1, 1, 1), "back again, there is one too many");
    sim.run(40, |_| 0);
    sim.away.instances = 1;
    sim.run(40, |_| 0);
    assert_eq!(sim.have(), 0, "nobody asks, nothing is replaced");
}

#[test]
fn what_is_never_ready_is_started_no_oftener_than_what_crashes_and_never_beyond_the_maximum() {
    let mut sim = Sim::new(10);
    sim.sick = true;
    sim.run(600, |_| 10);
    let begun: Vec<_> = sim.begun.iter().map(|at| at.as_millis() / 100).collect();
    assert_eq!(begun, BEGUN);
    let mut sim = Sim::new(10);
    (sim.sick, sim.max) = (true, 3);
    sim.run(20, |_| 10);
    assert_eq!((sim.have(), sim.starts, sim.stops), (3, 3, 0));
}

#[test]
fn requests_that_an_instance_keeps_while_it_is_away_need_no_other() {
    let away = Away { instances: 1, requests: 7 };
    assert_eq!([7, 8, 17, 18].map(|requests| replacing(requests, 10, away)), [0, 2, 2, 3]);
    assert_eq!(replacing(0, 10, Away { instances: 3, requests: 0 }), 0);
}

#[test]
fn the_minimum_is_kept_and_the_maximum_wins_over_it() {
    let mut sim = Sim::new(10);
    sim.min = 3;
    sim.run(300, |_| 0);
    assert_eq!((sim.have(), sim.starts), (3, 3));
    let facts = Facts {
        requests: 0,
        concurrency: 1,
        cpus: 1.0,
        min: 5,
        max: 2,
        have: 0,
        away: Away::default(),
        idle: None,
        idle_after: Duration::from_secs(30),
        cpu: Cpu::DuringRequests,
    };
    assert_eq!(Scaler::new(Tuning::default()).decide(Duration::ZERO, &facts).desired, 2);
}

#[test]
fn a_sudden_growth_panics_and_panic_takes_nothing_back() {
    let mut sim = Sim::new(10);
    sim.run(120, |_| 6);
    assert!(!sim.scaler.panics());
    // Six instances at once; when the last six seconds ask for half as many again, all that they ask for.
    sim.run(5, |_| 60);
    assert_eq!((sim.have(), sim.scaler.panics()), (6, false));
    sim.run(1, |_| 60);
    assert_eq!((sim.have(), sim.scaler.panics()), (10, true));
    sim.run(59, |_| 6);
    assert_eq!((sim.have(), sim.stops, sim.scaler.panics()), (10, 0, true), "for a whole stable window");
    sim.run(1, |_| 6);
    assert!(!sim.scaler.panics(), "60 s after the last reason for it");
    sim.run(60, |_| 6);
    assert_eq!((sim.have(), sim.turns), (1, 1));
}

#[test]
fn busy_cpus_ask_for_instances_as_requests_do() {
    let mut sim = Sim::new(80);
    // Eight requests, each of which uses half a CPU where there is one: four CPUs, as soon as there are four.
    sim.cpu = |instances, requests| (f64::from(requests) / 2.0).min(f64::from(instances));
    sim.run(48, |_| 8);
    assert_eq!(sim.have(), 1, "80 % of the one, over a minute");
    sim.run(2, |_| 8);
    assert_eq!(sim.have(), 2);
    sim.run(300, |_| 8);
    assert_eq!((sim.have(), sim.turns), (7, 0), "4 CPUs at 60 %");
    sim.run(32, |_| 0);
    assert_eq!((sim.have(), sim.turns), (0, 1), "without requests there is none");
}

#[test]
fn a_few_seconds_of_all_cpus_start_nothing() {
    let mut sim = Sim::new(80);
    sim.cpu = |instances, _| f64::from(instances);
    sim.run(40, |t| u32::from(t <= 20.0));
    assert_eq!((sim.have(), sim.starts), (1, 1));
}

#[test]
fn a_start_is_no_load_and_an_instance_that_has_gone_takes_nothing_back() {
    let second = Duration::from_secs(1);
    let mut meter = Meter::default();
    assert_eq!(meter.read(second, vec![(1, second * 9)]), 0, "nine seconds of starting");
    assert_eq!(meter.read(second * 2, vec![(1, second * 9 + second / 2), (2, second * 30)]), 500);
    assert_eq!(meter.read(second * 4, vec![(1, second * 10), (2, second * 32)]), 1250);
    assert_eq!(meter.read(second * 5, vec![(2, second * 33)]), 1000);
    assert_eq!(meter.read(second * 6, Vec::new()), 0);
    assert!(!meter.knows());
}

#[test]
fn work_beside_requests_counts_where_cpu_is_always_given_and_keeps_nothing_alone() {
    let decide = |min: u32, cpu: Cpu| {
        let mut scaler = Scaler::new(Tuning::default());
        scaler.cpu.set(Duration::ZERO, 3000);
        let facts = Facts {
            requests: 0,
            concurrency: 80,
            cpus: 1.0,
            min,
            max: 100,
            have: 1,
            away: Away::default(),
            idle: Some(Duration::from_secs(300)),
            idle_after: Duration::from_secs(30),
            cpu,
        };
        scaler.decide(Duration::from_secs(300), &facts).desired
    };
    assert_eq!(decide(1, Cpu::Always), 5, "3 CPUs at 60 %");
    assert_eq!(decide(0, Cpu::Always), 0, "whether there is one at all is for requests to say");
    assert_eq!(decide(1, Cpu::DuringRequests), 1);
}

#[test]
fn a_window_is_exact_where_its_buckets_end_and_smooth_between() {
    let mut window = Window::new(Duration::from_secs(60));
    window.set(Duration::ZERO, 6);
    let second = Duration::from_secs(1);
    assert_eq!(window.average(second * 30, second * 60), 3.0);
    assert_eq!(window.average(second * 60, second * 60), 6.0);
    window.set(second * 60, 0);
    assert_eq!(window.average(second * 63, second * 6), 3.0);
    assert!((window.average(second * 63 + second / 2, second * 6) - 2.5).abs() < 1e-9);
    assert_eq!(window.average(second * 90, second * 60), 3.0);
    assert_eq!(window.average(second * 10_000, second * 60), 0.0);
    window.set(second * 10_000, 4);
    assert_eq!(window.average(second * 20_000, second * 60), 4.0);
}

#[test]
fn only_instances_that_are_idle_and_not_needed_retire_the_last_first() {
    let idle = |seconds: u64| Some(Duration::from_secs(seconds));
    let after = Duration::from_secs(30);
    assert_eq!(retire(&[idle(60), None, idle(29), idle(30), idle(90)], 1, after), [4, 3, 0]);
    assert_eq!(retire(&[idle(60), idle(60), idle(60)], 2, after), [2]);
    assert_eq!(retire(&[idle(60)], 3, after), [] as [usize; 0]);
}

proptest::proptest! {
    #[test]
    fn whatever_the_load_there_are_never_more_than_its_peak_needs_and_few_turns(
        levels in proptest::collection::vec((1u32..40, 0u32..500), 1..20),
        concurrency in 1u32..100, start in 1u64..200, min in 0u32..5,
    ) {
        let mut sim = Sim::new(concurrency);
        (sim.max, sim.min, sim.start_takes) = (1000, min, Duration::from_millis(start * 100));
        let (mut most, mut total) = (0, 0);
        for (seconds, level) in levels {
            sim.run(seconds, |_| level);
            most = most.max(level);
            total += seconds;
            proptest::prop_assert!(sim.have() >= min);
        }
        // The documented headroom: 60 % of what an instance takes.
        let needed = for_average(f64::from(most) / f64::from(concurrency), 0.6);
        proptest::prop_assert!(sim.peak <= needed.max(min), "{} of {needed}", sim.peak);
        // What has grown shrinks after half a minute of idleness at the earliest.
        proptest::prop_assert!(sim.turns <= 2 + total / 20, "{} turns in {total} s", sim.turns);
    }

    #[test]
    fn a_decision_is_always_within_bounds(
        levels in proptest::collection::vec((0u64..200_000, 0u32..100_000), 1..50),
        concurrency in 1u32..1000, min in 0u32..50, max in 1u32..200, gone in 0u32..50,
    ) {
        let mut scaler = Scaler::new(Tuning::default());
        let mut now = Duration::ZERO;
        for (pause, requests) in levels {
            now += Duration::from_millis(pause);
            scaler.requests.set(now, u64::from(requests));
            let facts = Facts {
                requests, concurrency, cpus: 1.0, min, max, have: 1,
                away: Away { instances: gone, requests: 0 },
                idle: (requests == 0).then_some(Duration::ZERO),
                idle_after: Duration::from_secs(30),
                cpu: Cpu::DuringRequests,
            };
            let Decision { desired, wanted } = scaler.decide(now, &facts);
            proptest::prop_assert!(desired >= min.min(max) && desired <= wanted && wanted <= max);
            proptest::prop_assert!(desired >= at_once(requests, concurrency).min(max));
            proptest::prop_assert!(wanted >= replacing(requests, concurrency, facts.away).min(max));
            proptest::prop_assert!(wanted <= desired + gone);
        }
    }
}
