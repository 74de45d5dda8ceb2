//! How many instances a revision should have: pure functions over recorded load, with time handed in.
//!
//! Two answers are combined. *At once*: requests that run or wait need `ceil(requests / concurrency)`
//! instances, and those are started without delay. *On average*: over a stable window of 60 s instances
//! should be used to 60 % of their concurrency and of their CPU, as Cloud Run documents; a panic window of 6 s that
//! shows half as much again as there is takes over, as in Knative's autoscaler, and while panic lasts (a stable window
//! from its last reason on) nothing is taken away. A window counts from its full length, so a short burst does not
//! ask for more than it needs.
//!
//! What of Knative's differs, and why: its panic begins at twice of what there is, which cannot happen here, see
//! [`Tuning::threshold`]; it takes away at most half at a time and only what its windows say, here each instance stays
//! until it has been idle for its own time; and instances that are being started count as there, so that a slow starter
//! is not started twice.
//!
//! Declined: predicting, and rate limits on growth; the maximum is the limit.

use std::time::Duration;

use crate::Cpu;

/// How the autoscaler weighs what it sees.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The window of normal decisions. 60 s.
    pub stable: Duration,
    /// The window of hasty decisions. 6 s.
    pub panic: Duration,
    /// How much of its concurrency or CPU an instance should use on average. 0.6.
    pub target: f64,
    /// How many times more than there is the panic window must ask for to panic. 1.5: what runs or waits is met
    /// at once anyway, which leaves the average at most 1 / 0.6 behind, so Knative's 2 would never be reached.
    pub threshold: f64,
    /// How often a busy revision is looked at. 1 s; idle ones are not looked at.
    pub tick: Duration,
    /// How long after its last request an instance loses its CPU, where that is asked for.
    pub freeze_after: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            stable: Duration::from_secs(60),
            panic: Duration::from_secs(6),
            target: 0.6,
            threshold: 1.5,
            tick: Duration::from_secs(1),
            freeze_after: Duration::from_millis(500),
        }
    }
}

/// A level over time, kept as its integral in 60 buckets.
#[derive(Clone, Debug)]
pub struct Window {
    /// Level times microseconds.
    buckets: [u64; Window::BUCKETS],
    /// Microseconds a bucket stands for.
    width: u64,
    /// Until when the level has been added up, in microseconds.
    until: u64,
    level: u64,
}

impl Window {
    const BUCKETS: usize = 61;

    /// An empty window of this length that starts at time zero.
    pub fn new(span: Duration) -> Self {
        let width = (span.as_micros() as u64 / 60).max(1);
        Window { buckets: [0; Self::BUCKETS], width, until: 0, level: 0 }
    }

    /// From now on, the level is this. Times that run backwards count as no time.
    pub fn set(&mut self, now: Duration, level: u64) {
        self.advance(now.as_micros() as u64);
        self.level = level;
    }

    /// The mean level of the time before `now`, where time before the start counts as level 0. `over` is at
    /// most the window's length; the oldest bucket is taken in part.
    pub fn average(&mut self, now: Duration, over: Duration) -> f64 {
        self.advance(now.as_micros() as u64);
        let over = over.as_micros() as u64;
        let current = self.until / self.width;
        let within = self.until % self.width;
        let full = (over.saturating_sub(within) / self.width).min(Self::BUCKETS as u64 - 1);
        let mut sum = self.at(current);
        for back in 1..=full.min(current) {
            sum += self.at(current - back);
        }
        let rest = over.saturating_sub(within + full * self.width);
        let oldest = match current.checked_sub(full + 1) {
            Some(index) if full + 1 < Self::BUCKETS as u64 => self.at(index) as f64,
            _ => 0.0,
        };
        (sum as f64 + oldest * rest as f64 / self.width as f64) / over.max(1) as f64
    }

    fn at(&self, index: u64) -> u64 {
        self.buckets[index as usize % Self::BUCKETS]
    }

    fn advance(&mut self, now: u64) {
        // More than the whole window at once: what was there before is gone anyway.
        let horizon = self.width * Self::BUCKETS as u64;
        if now.saturating_sub(self.until) > horizon {
            self.buckets = [0; Self::BUCKETS];
            self.until = (now - horizon) / self.width * self.width;
        }
        while self.until < now {
            let index = self.until / self.width;
            let end = ((index + 1) * self.width).min(now);
            let bucket = &mut self.buckets[index as usize % Self::BUCKETS];
            *bucket += self.level * (end - self.until);
            self.until = end;
            if end.is_multiple_of(self.width) {
                self.buckets[(index + 1) as usize % Self::BUCKETS] = 0;
            }
        }
    }
}

/// What a decision looks at, apart from the windows.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Requests that run or wait right now.
    pub requests: u32,
    /// How many requests an instance takes at a time.
    pub concurrency: u32,
    /// How many CPUs an instance has.
    pub cpus: f64,
    /// How many instances to keep at least.
    pub min: u32,
    /// How many instances there may be.
    pub max: u32,
    /// How many instances there are, starting ones included.
    pub have: u32,
    /// Those among them that get no new requests for now.
    pub away: Away,
    /// How long there has been no request at all; `None` while there are some.
    pub idle: Option<Duration>,
    /// After how long without any request the windows no longer count.
    pub idle_after: Duration,
    /// When instances have their CPU: what they do beside requests counts only where they always have it.
    pub cpu: Cpu,
}

/// Instances that get no new requests for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Away {
    /// How many.
    pub instances: u32,
    /// How many requests they still have.
    pub requests: u32,
}

/// How many instances there should be. Both are within `min..=max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How many are needed to take requests; what is more may be retired.
    pub desired: u32,
    /// Up to how many to start: where there is demand, others in place of those that are away.
    pub wanted: u32,
}

/// The memory of the autoscaler for one revision.
#[derive(Clone, Debug)]
pub struct Scaler {
    tuning: Tuning,
    /// Requests that run or wait.
    pub requests: Window,
    /// CPUs in use, in thousandths.
    pub cpu: Window,
    panic: Option<Panic>,
}

#[derive(Clone, Copy, Debug)]
struct Panic {
    until: Duration,
    most: u32,
}

impl Scaler {
    /// One that has seen nothing.
    pub fn new(tuning: Tuning) -> Self {
        let window = Window::new(tuning.stable);
        Scaler { requests: window.clone(), cpu: window, panic: None, tuning }
    }

    /// How many instances there should be.
    pub fn decide(&mut self, now: Duration, facts: &Facts) -> Decision {
        let within = |count: u32| count.clamp(facts.min.min(facts.max), facts.max);
        if facts.idle.is_some_and(|idle| idle >= facts.idle_after) {
            self.panic = None;
            let desired = within(self.for_background(now, facts));
            return Decision { desired, wanted: desired };
        }
        let demand = self.demand(now, facts);
        Decision { desired: within(demand), wanted: within(with_others(demand, facts.away)) }
    }

    /// How many instances requests need that can take them.
    fn demand(&mut self, now: Duration, facts: &Facts) -> u32 {
        let target = self.tuning.target;
        let stable = for_average(self.load(now, self.tuning.stable, facts), target);
        let recent = self.load(now, self.tuning.panic, facts);
        let hasty = for_average(recent, target);
        let requests = facts.requests.saturating_sub(facts.away.requests);
        let calm = at_once(requests, facts.concurrency).max(stable).max(self.for_cpu(now, facts));
        self.consider_panic(now, recent / target, facts.have);
        match &mut self.panic {
            Some(panic) => {
                panic.most = panic.most.max(calm).max(hasty);
                panic.most
            }
            None => calm,
        }
    }

    /// How many instances work beside requests needs. It never keeps the first: Cloud Run decides by requests alone
    /// whether there is one at all.
    fn for_background(&mut self, now: Duration, facts: &Facts) -> u32 {
        if facts.min == 0 || facts.cpu == Cpu::DuringRequests {
            return 0;
        }
        self.for_cpu(now, facts)
    }

    /// How many instances the CPU that is used needs. Only the stable window counts: a start or a large request may well
    /// use all that there is for some seconds.
    fn for_cpu(&mut self, now: Duration, facts: &Facts) -> u32 {
        let used = self.cpu.average(now, self.tuning.stable) / 1000.0;
        for_cpu(used / facts.cpus.max(0.001), self.tuning.target)
    }

    /// Whether growth is being answered in haste.
    pub fn panics(&self) -> bool {
        self.panic.is_some()
    }

    fn consider_panic(&mut self, now: Duration, wanted: f64, have: u32) {
        let overload = wanted >= self.tuning.threshold * f64::from(have.max(1));
        match &mut self.panic {
            Some(panic) if overload => panic.until = now + self.tuning.stable,
            Some(panic) if now >= panic.until => self.panic = None,
            None if overload => self.panic = Some(Panic { until: now + self.tuning.stable, most: 0 }),
            _ => {}
        }
    }

    /// The average of the requests, in instances that they would use in full. Those that are away keep what they have.
    fn load(&mut self, now: Duration, over: Duration, facts: &Facts) -> f64 {
        let requests = self.requests.average(now, over) - f64::from(facts.away.requests);
        requests.max(0.0) / f64::from(facts.concurrency.max(1))
    }
}

/// Makes a level of what each instance says it has used in all.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    read: Duration,
    /// Of each instance that was there: which, and what it had used.
    used: Vec<(u32, Duration)>,
}

impl Meter {
    /// How much CPU was used since the last reading, in thousandths. An instance counts from its second reading on: what
    /// its start took is no load.
    pub fn read(&mut self, now: Duration, used: Vec<(u32, Duration)>) -> u64 {
        let elapsed = now.saturating_sub(self.read).as_secs_f64();
        let before = |which: u32| self.used.iter().find(|(one, _)| *one == which).map(|(_, used)| *used);
        let grown = used.iter().filter_map(|(which, used)| Some(used.saturating_sub(before(*which)?)));
        let busy = grown.sum::<Duration>().as_secs_f64();
        *self = Meter { read: now, used };
        if elapsed > 0.0 { (busy / elapsed * 1000.0) as u64 } else { 0 }
    }

    /// Whether some instance says what it uses.
    pub fn knows(&self) -> bool {
        !self.used.is_empty()
    }
}

/// How many instances this many requests need at least.
pub fn at_once(requests: u32, concurrency: u32) -> u32 {
    requests.div_ceil(concurrency.max(1))
}

/// The same where some instances get no new requests: others are there in their place.
pub fn replacing(requests: u32, concurrency: u32, away: Away) -> u32 {
    with_others(at_once(requests.saturating_sub(away.requests), concurrency), away)
}

/// Where nothing is needed nothing is replaced.
fn with_others(needed: u32, away: Away) -> u32 {
    if needed == 0 { 0 } else { needed + away.instances }
}

/// How many instances an average of requests needs, where a load of 1 uses one instance in full. The first may be used
/// in full and two to 80 %: Cloud Run documents that the target is higher when there are few instances, and
/// otherwise one steady request with a concurrency of 1 would hold two instances.
pub fn for_average(load: f64, target: f64) -> u32 {
    if load <= 1.0 { if load > 1e-9 { 1 } else { 0 } } else { for_more(load, target) }
}

/// As [`for_average`], for CPU. Requests wait where there is no room and so show that more is needed; of CPU no more can
/// be used than there is, so the first instance may be used to 80 % and not in full.
pub fn for_cpu(load: f64, target: f64) -> u32 {
    let few = target.max(0.8);
    if load <= few { if load > 1e-9 { 1 } else { 0 } } else { for_more(load, target) }
}

fn for_more(load: f64, target: f64) -> u32 {
    if load <= 2.0 * target.max(0.8) { 2 } else { ((load / target - 1e-9).ceil() as u32).max(3) }
}

/// Which instances to retire, by place: those that have been idle (`Some`) for `idle_after`, the last first, as
/// long as more than `desired` remain.
pub fn retire(idle: &[Option<Duration>], desired: u32, idle_after: Duration) -> Vec<usize> {
    let surplus = idle.len().saturating_sub(desired as usize);
    let old = idle.iter().enumerate().rev().filter(|(_, idle)| idle.is_some_and(|idle| idle >= idle_after));
    old.map(|(place, _)| place).take(surplus).collect()
}

/// When an instance may be started again after others did not start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
    until: Duration,
}

impl Backoff {
    /// The longest pause between two tries.
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// A start failed. Those that fail together count once.
    pub fn failed(&mut self, now: Duration) {
        if self.failures > 0 && now < self.until {
            return;
        }
        self.failures += 1;
        self.until = now + Self::pause(self.failures);
    }

    /// A start succeeded: all is forgiven.
    pub fn succeeded(&mut self) {
        *self = Backoff::default();
    }

    /// When the next start may be tried; `None` means now.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        self.until.checked_sub(now).filter(|rest| self.failures > 0 && !rest.is_zero())
    }

    /// Whether requests should be refused rather than wait: it has failed repeatedly and is not to be tried yet.
    pub fn is_broken(&self, now: Duration) -> bool {
        self.failures > 1 && self.wait(now).is_some()
    }

    /// 0.1 s after the first failure, then 1 s, 2 s, 4 s and so on.
    fn pause(failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            1 => Duration::from_millis(100),
            n => Duration::from_secs(1 << (n - 2).min(6)).min(Self::LONGEST),
        }
    }
}

#[cfg(test)]
#[path = "scale_tests.rs"]
mod tests;
