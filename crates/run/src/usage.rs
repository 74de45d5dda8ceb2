//! What instances used, by revision: kept for what prices it later.
//!
//! Cloud Run bills in one of two ways (<https://cloud.google.com/run/pricing>). *By requests*: the time an instance
//! starts, and the time it has at least one request. *By instances*: all the time from its start to its end, at least a
//! minute. Either is rounded up to 100 ms; requests that follow each other within what was rounded up are not billed
//! twice. Time is multiplied by the CPU and the memory that all containers of an instance may have; where more CPU is
//! given for the start, it is billed for as long as it is given. A probe of an instance that has no request is billed
//! as a request is, and is none.
//!
//! Declined: prices, free tiers, the lower rate of idle instances that are kept (they are not counted at all when
//! billing is by requests), and the time an instance takes to end, which is up to its program.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use kernel::{Result, collection::Collection, mirror::Record};
use prost::Message;

use crate::{
    Run,
    cpu::{self, BOOST},
    plan,
    record::{Revision, Template},
    rules,
};

/// What billed time is rounded up to, in milliseconds.
const GRAIN: u64 = 100;
/// The least that an instance is billed for that is billed by instances, in milliseconds.
const LEAST: u64 = 60_000;
/// How often usage is written down, if there was any, that of instances which go on included: what a kill loses at most.
pub(crate) const KEEP: Duration = Duration::from_secs(30);

/// How a revision's instances are billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// While they have requests, and while they start.
    Requests,
    /// While they are there.
    Instances,
}

/// What the instances of a revision used, ever.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// `projects/P/locations/R/services/S/revisions/N`. It may have been deleted since, and another of this name made, which
    /// is listed by itself.
    pub revision: String,
    /// How it is billed.
    pub billing: Billing,
    /// Requests that instances answered.
    pub requests: u64,
    /// Instances that were started.
    pub instances: u64,
    /// Billable time of instances, in seconds.
    pub instance_seconds: f64,
    /// CPU, in vCPU-seconds.
    pub vcpu_seconds: f64,
    /// Memory, in GiB-seconds.
    pub gib_seconds: f64,
}

/// The same as it is kept.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Kept {
    /// Whether it is billed by instances.
    #[prost(bool, tag = "1")]
    by_instances: bool,
    /// Thousandths of a CPU of an instance.
    #[prost(uint32, tag = "2")]
    cpu: u32,
    /// Bytes of an instance.
    #[prost(uint64, tag = "3")]
    memory: u64,
    #[prost(uint64, tag = "4")]
    requests: u64,
    #[prost(uint64, tag = "5")]
    instances: u64,
    /// Billable milliseconds.
    #[prost(uint64, tag = "6")]
    billed: u64,
    /// Thousandths of a CPU times milliseconds, on top of that.
    #[prost(uint64, tag = "7")]
    boosted: u64,
}

impl Record for Kept {
    const FORMAT: u8 = 1;
}

/// What the instances of a revision use.
pub(crate) struct Tally {
    billing: Billing,
    cpu: u32,
    /// Thousandths of a CPU that an instance has for its start, on top of that.
    boost: u32,
    memory: u64,
    requests: AtomicU64,
    instances: AtomicU64,
    /// Milliseconds.
    billed: AtomicU64,
    /// Thousandths of a CPU times milliseconds.
    boosted: AtomicU64,
}

/// The tallies of all revisions that had instances since haar was started, by [`key`].
#[derive(Default)]
pub(crate) struct Ledger(Mutex<HashMap<String, Arc<Tally>>>);

/// An instance, as it is billed.
pub(crate) struct Meter {
    tally: Arc<Tally>,
    begun: Instant,
    bill: Mutex<Bill>,
}

/// Until when an instance is billed. All is in milliseconds since it began.
struct Bill {
    /// What came before is billed.
    until: u64,
    /// What it has for its start is billed until then, when its life is billed.
    boost_until: u64,
    /// When it had, or will have, no more CPU than it is to have.
    boost_ends: u64,
    /// Whether its life is over.
    ended: bool,
}

impl Tally {
    fn of(template: &Template, kept: Option<&Kept>) -> Tally {
        let kept = kept.cloned().unwrap_or_default();
        let cpu: u32 = template.containers.iter().map(|container| rules::cpu(&container.cpu)).sum();
        Tally {
            billing: match cpu::allocation(template) {
                ingress::Cpu::DuringRequests => Billing::Requests,
                ingress::Cpu::Always => Billing::Instances,
            },
            cpu,
            boost: template.containers.iter().map(plan::boost).sum::<u32>() - cpu,
            memory: template.containers.iter().map(|container| rules::memory(&container.memory)).sum(),
            requests: kept.requests.into(),
            instances: kept.instances.into(),
            billed: kept.billed.into(),
            boosted: kept.boosted.into(),
        }
    }

    /// Adds billable milliseconds, and in how many of them there was more CPU for the start.
    fn charge(&self, life: u64, boost: u64) {
        self.billed.fetch_add(life, Relaxed);
        self.boosted.fetch_add(boost * u64::from(self.boost), Relaxed);
    }

    fn kept(&self) -> Kept {
        Kept {
            by_instances: self.billing == Billing::Instances,
            cpu: self.cpu,
            memory: self.memory,
            requests: self.requests.load(Relaxed),
            instances: self.instances.load(Relaxed),
            billed: self.billed.load(Relaxed),
            boosted: self.boosted.load(Relaxed),
        }
    }
}

impl Kept {
    fn usage(&self, revision: String) -> Usage {
        let seconds = self.billed as f64 / 1e3;
        Usage {
            revision,
            billing: if self.by_instances { Billing::Instances } else { Billing::Requests },
            requests: self.requests,
            instances: self.instances,
            instance_seconds: seconds,
            vcpu_seconds: seconds * f64::from(self.cpu) / 1e3 + self.boosted as f64 / 1e6,
            gib_seconds: seconds * self.memory as f64 / f64::from(1 << 30),
        }
    }
}

impl Meter {
    /// An instance that begins to start now.
    fn new(tally: Arc<Tally>) -> Meter {
        tally.instances.fetch_add(1, Relaxed);
        let bill = Bill { until: 0, boost_until: 0, boost_ends: u64::MAX, ended: false };
        Meter { tally, begun: Instant::now(), bill: Mutex::new(bill) }
    }

    /// One whose tally nobody reads.
    #[cfg(test)]
    pub(crate) fn of(template: &Template) -> Meter {
        Meter::new(Arc::new(Tally::of(template, None)))
    }

    /// It can take requests: its start is billed.
    pub(crate) fn ready(&self) {
        let now = self.begun.elapsed();
        self.lock().boost_ends = up((now + BOOST).as_micros(), 1000);
        self.bill(now, now);
    }

    /// It had requests for so long, until now.
    pub(crate) fn worked(&self, span: Duration, requests: u32) {
        self.tally.requests.fetch_add(requests.into(), Relaxed);
        self.bill(self.begun.elapsed(), span);
    }

    /// Bills what is not billed yet of a span that ends now, rounded up.
    fn bill(&self, now: Duration, span: Duration) {
        if self.tally.billing == Billing::Instances {
            return;
        }
        let mut bill = self.lock();
        let end = up(now.as_micros(), 1000);
        let start = end.saturating_sub(up(span.as_micros(), 1000)).max(bill.until);
        if end > start {
            let until = start + up((end - start).into(), GRAIN) * GRAIN;
            bill.until = until;
            self.tally.charge(until - start, until.min(bill.boost_ends).saturating_sub(start));
        }
    }

    /// Bills what is not billed yet of its life, if that is what it is billed by.
    pub(crate) fn lived(&self) {
        self.bill_life(&mut self.lock(), self.begun.elapsed());
    }

    /// It has ended. What it did before may be told later; its life is over.
    pub(crate) fn ended(&self) {
        let mut bill = self.lock();
        self.bill_life(&mut bill, self.begun.elapsed());
        bill.ended = true;
    }

    fn bill_life(&self, bill: &mut Bill, now: Duration) {
        if self.tally.billing == Billing::Requests || bill.ended {
            return;
        }
        let now = up(now.as_millis(), GRAIN) * GRAIN;
        let (until, boost_until) = (now.max(LEAST), now.min(bill.boost_ends));
        let (life, boost) = (until - bill.until, boost_until.saturating_sub(bill.boost_until));
        (bill.until, bill.boost_until) = (until, boost_until);
        self.tally.charge(life, boost);
    }

    fn lock(&self) -> MutexGuard<'_, Bill> {
        self.bill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many whole grains hold so much.
fn up(amount: u128, grain: u64) -> u64 {
    u64::try_from(amount.div_ceil(grain.into())).unwrap_or(u64::MAX)
}

/// What a revision's usage is kept under: another revision of the same name has its own.
fn key(revision: &Revision) -> String {
    format!("{}@{}", revision.resource_name(), revision.uid)
}

/// The revision's name in that.
fn name(key: &str) -> &str {
    key.split_once('@').map_or(key, |(name, _)| name)
}

impl Ledger {
    /// Begins to bill an instance of a revision.
    pub(crate) fn meter(&self, revision: &Revision, kept: &Collection<Kept>) -> Meter {
        let mut tallies = self.lock();
        let tally = tallies.entry(key(revision)).or_insert_with_key(|key| {
            let template = revision.template.clone().unwrap_or_default();
            Arc::new(Tally::of(&template, kept.find(key).as_ref().map(|held| &held.value)))
        });
        Meter::new(tally.clone())
    }

    /// What is known now, without what is only kept.
    fn now(&self) -> HashMap<String, Kept> {
        self.lock().iter().map(|(key, tally)| (key.clone(), tally.kept())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Tally>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// What all revisions that ever had an instance have used, by name.
    pub fn usage(&self) -> Vec<Usage> {
        let mut now = self.used();
        for (key, held) in self.usage.mirror().scan("", "", usize::MAX, |_, _| true) {
            now.entry(key.to_string()).or_insert_with(|| held.value.clone());
        }
        let mut all: Vec<(String, Kept)> = now.into_iter().collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all.into_iter().map(|(key, kept)| kept.usage(name(&key).to_owned())).collect()
    }

    /// What is known now: that of instances which go on is billed until now first.
    fn used(&self) -> HashMap<String, Kept> {
        if let Some(ingress) = self.ingress.get() {
            ingress.tell_work();
        }
        self.fleet.meters().iter().for_each(|meter| meter.lived());
        self.fleet.ledger.now()
    }

    /// Writes down what has been used since it was last written down.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn keep_usage(&self) -> Result<()> {
        for (key, now) in self.used() {
            match self.usage.find(&key) {
                None => drop(self.usage.create(&key, now).await?),
                Some(known) if known.value != now => {
                    self.usage
                        .update(&key, "", |kept| {
                            *kept = now.clone();
                            Ok(())
                        })
                        .await?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Container;

    fn meter(cpu_idle: bool) -> Meter {
        let container =
            Container { cpu: "2".into(), memory: "512Mi".into(), cpu_idle, ..Container::default() };
        Meter::of(&Template { containers: vec![container], ..Template::default() })
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_follows_within_what_was_rounded_up_costs_nothing() {
        let meter = meter(true);
        let billed = || meter.tally.billed.load(Relaxed);
        meter.bill(ms(30), ms(30));
        assert_eq!(billed(), 100, "its start");
        meter.bill(ms(60), ms(10));
        assert_eq!(billed(), 100, "within that");
        meter.bill(ms(130), ms(50));
        assert_eq!(billed(), 200, "half of it was paid for");
        meter.bill(ms(1000), ms(1));
        assert_eq!(billed(), 300);
        meter.bill(ms(2000), ms(900));
        assert_eq!(billed(), 1200);
    }

    #[test]
    fn usage_is_time_by_size() {
        let meter = meter(true);
        meter.bill(ms(1000), ms(1000));
        meter.tally.requests.fetch_add(7, Relaxed);
        let usage = meter.tally.kept().usage("r".into());
        assert_eq!((usage.requests, usage.instances, usage.billing), (7, 1, Billing::Requests));
        assert_eq!((usage.instance_seconds, usage.vcpu_seconds, usage.gib_seconds), (1.0, 2.0, 0.5));
    }

    #[test]
    fn cpu_for_the_start_is_billed_while_it_is_given() {
        let container = |startup_cpu_boost| Container {
            cpu: "1".into(),
            memory: "512Mi".into(),
            cpu_idle: true,
            startup_cpu_boost,
            ..Container::default()
        };
        let containers = vec![container(true), container(false)];
        let meter = Meter::of(&Template { containers, ..Template::default() });
        meter.lock().boost_ends = 1500;
        meter.bill(ms(1000), ms(1000));
        assert_eq!(
            meter.tally.kept().usage("r".into()).vcpu_seconds,
            3.0,
            "one of two containers has twice as much"
        );
        meter.bill(ms(2000), ms(1000));
        assert_eq!(meter.tally.kept().usage("r".into()).vcpu_seconds, 5.5, "for half of it");
    }

    #[test]
    fn an_instance_with_its_own_cpu_costs_a_minute_at_least() {
        let meter = meter(false);
        meter.worked(ms(500), 3);
        assert_eq!(meter.tally.billed.load(Relaxed), 0, "only its life counts");
        meter.ended();
        let usage = meter.tally.kept().usage("r".into());
        assert_eq!((usage.requests, usage.instance_seconds), (3, 60.0));
        meter.ended();
        meter.lived();
        assert_eq!(meter.tally.billed.load(Relaxed), LEAST, "it ends once");
    }

    #[test]
    fn a_life_is_billed_as_it_goes_on() {
        let container = Container { cpu: "1".into(), startup_cpu_boost: true, ..Container::default() };
        let meter = Meter::of(&Template { containers: vec![container], ..Template::default() });
        let billed = |now| {
            meter.bill_life(&mut meter.lock(), ms(now));
            (meter.tally.billed.load(Relaxed), meter.tally.boosted.load(Relaxed))
        };
        assert_eq!(billed(950), (LEAST, 1_000_000), "all of it as a start so far");
        meter.lock().boost_ends = 11_000;
        assert_eq!(billed(50_000), (LEAST, 11_000_000));
        assert_eq!(billed(70_010), (70_100, 11_000_000));
        assert_eq!(billed(70_020), (70_100, 11_000_000));
    }

    #[test]
    fn what_is_told_from_two_sides_at_once_is_billed_once() {
        let meter = meter(true);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (1..=5000).for_each(|i| meter.bill(ms(i * 100), ms(100))));
            }
        });
        assert_eq!(meter.tally.billed.load(Relaxed), 500_000);
    }
}
