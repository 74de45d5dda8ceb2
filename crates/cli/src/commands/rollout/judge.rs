//! Whether a new revision is as good as the one before: from counts of requests, errors and latencies of both.

use serde_json::Value;

/// Requests below which nothing can be said of a revision.
const ENOUGH: u64 = 20;
/// How much slower than the one before a revision may be at its 95th percentile: so many times, and …
const SLOWER: f64 = 2.0;
/// … so many milliseconds: what nobody notices is no reason.
const NOTICED: f64 = 50.0;

/// Requests of a revision over some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// How many ended.
    pub requests: u64,
    /// How many of them with 5xx.
    pub errors: u64,
    latencies: Vec<u64>,
    bounds: Vec<u64>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is as good, as far as the requests tell.
    Good,
    /// Too few requests to say anything.
    Unknown,
    /// It is worse; how, in a sentence.
    Bad(String),
}

impl Counts {
    /// What haar's counters say of the revision with this name so far.
    pub fn read(counters: &Value, revision: &str) -> Counts {
        let numbers = |value: &Value| -> Vec<u64> {
            value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
        };
        let all = counters["revisions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(its) = all.iter().find(|one| one["revision"] == revision) else { return Counts::default() };
        Counts {
            requests: its["requests"].as_u64().unwrap_or(0),
            errors: its["errors"].as_u64().unwrap_or(0),
            latencies: numbers(&its["latencies"]),
            bounds: numbers(&counters["bounds"]),
        }
    }

    /// What came since an earlier moment. Counters begin anew when a revision served nobody in between.
    pub fn since(&self, earlier: &Counts) -> Counts {
        if earlier.requests > self.requests || earlier.latencies.len() != self.latencies.len() {
            return self.clone();
        }
        let pairs = self.latencies.iter().zip(&earlier.latencies);
        Counts {
            requests: self.requests - earlier.requests,
            errors: self.errors.saturating_sub(earlier.errors),
            latencies: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
            bounds: self.bounds.clone(),
        }
    }

    /// The share of errors, 0 to 1.
    fn failing(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// How many milliseconds 95 of 100 requests took at most, as exactly as the histogram tells: within a bucket, they
    /// are taken to be spread evenly.
    pub fn p95(&self) -> Option<f64> {
        let all: u64 = self.latencies.iter().sum();
        let rank = all as f64 * 0.95;
        let mut below = 0;
        for (place, count) in self.latencies.iter().enumerate() {
            if *count > 0 && (below + count) as f64 >= rank {
                let from = if place == 0 { 0 } else { *self.bounds.get(place - 1)? };
                // Nothing is known of how far the last bucket goes.
                let to = self.bounds.get(place).copied().unwrap_or(from);
                let part = (rank - below as f64) / *count as f64;
                return Some((from as f64 + (to - from) as f64 * part) / 1e3);
            }
            below += count;
        }
        None
    }

    /// For people: requests, errors, latency.
    pub fn in_words(&self) -> String {
        let errors = if self.errors == 1 { "error" } else { "errors" };
        let latency = self.p95().map_or(String::new(), |p95| format!(", p95 {p95:.1} ms"));
        format!("{} requests, {} {errors}{latency}", self.requests, self.errors)
    }
}

/// Compares a new revision with the one before. `tolerance` is the share of errors (0 to 1) that it may have more.
pub fn judge(new: &Counts, old: &Counts, tolerance: f64) -> Verdict {
    if new.requests < ENOUGH {
        return Verdict::Unknown;
    }
    let (failing, before) = (new.failing(), old.failing());
    if failing > before + tolerance {
        return Verdict::Bad(format!(
            "{:.1} % of its requests fail, {:.1} % of the old revision's",
            failing * 1e2,
            before * 1e2
        ));
    }
    match (new.p95(), old.p95()) {
        (Some(now), Some(then)) if old.requests >= ENOUGH && now > then * SLOWER && now - then > NOTICED => {
            Verdict::Bad(format!("its p95 is {now:.0} ms, the old revision's {then:.0} ms"))
        }
        _ => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many requests of which some fail, at 1, 10, 100 and 1000 ms.
    fn counts(latencies: [u64; 4], errors: u64) -> Counts {
        Counts {
            requests: latencies.iter().sum(),
            errors,
            latencies: latencies.to_vec(),
            bounds: vec![1_000, 10_000, 100_000],
        }
    }

    #[test]
    fn few_requests_tell_nothing() {
        assert_eq!(judge(&counts([19, 0, 0, 0], 19), &Counts::default(), 0.01), Verdict::Unknown);
        assert_eq!(judge(&Counts::default(), &counts([99, 0, 0, 0], 0), 0.01), Verdict::Unknown);
    }

    #[test]
    fn errors_are_compared() {
        let old = counts([90, 10, 0, 0], 3);
        assert_eq!(judge(&counts([100, 0, 0, 0], 4), &old, 0.01), Verdict::Good);
        let Verdict::Bad(why) = judge(&counts([100, 0, 0, 0], 5), &old, 0.01) else { panic!("good") };
        assert_eq!(why, "5.0 % of its requests fail, 3.0 % of the old revision's");
    }

    #[test]
    fn latency_is_compared_where_it_can_be_noticed() {
        let old = counts([100, 0, 0, 0], 0);
        assert_eq!(judge(&counts([0, 100, 0, 0], 0), &old, 0.01), Verdict::Good, "10 ms more");
        assert!(matches!(judge(&counts([90, 0, 10, 0], 0), &old, 0.01), Verdict::Bad(_)));
        assert_eq!(judge(&counts([96, 0, 0, 4], 0), &old, 0.01), Verdict::Good, "4 of 100");
        assert_eq!(
            judge(&counts([0, 0, 0, 100], 0), &Counts::default(), 0.01),
            Verdict::Good,
            "nothing to compare"
        );
    }

    #[test]
    fn a_percentile_lies_in_its_bucket() {
        assert_eq!(counts([100, 0, 0, 0], 0).p95(), Some(0.95));
        assert_eq!(counts([90, 10, 0, 0], 0).p95(), Some(5.5));
        assert_eq!(counts([0, 0, 0, 1], 0).p95(), Some(100.0));
        assert_eq!(Counts::default().p95(), None);
    }

    #[test]
    fn counters_that_began_anew_count_from_nothing() {
        let (before, after) = (counts([50, 0, 0, 0], 2), counts([70, 5, 0, 0], 3));
        let between = after.since(&before);
        assert_eq!((between.requests, between.errors, between.latencies[0]), (25, 1, 20));
        assert_eq!(before.since(&after), before);
    }
}
