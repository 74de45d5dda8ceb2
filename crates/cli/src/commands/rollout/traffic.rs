//! Where a service's requests go: before a rollout, at each of its steps, and afterwards.
//!
//! While it goes on, every share and tag of before is held by its revision, so that what is new gets no more than its
//! step. Taken back, the service asks for what it asked for before, to the letter; only where that was the latest
//! revision, and the latest is now the one that was worse, is the revision named.

use serde_json::{Value, json};

use crate::{
    commands::deploy::last_part,
    report::{Result, Trouble},
};

/// The tag under which the new revision is asked before it gets requests.
pub const TAG: &str = "rollout";
/// How v2 names what traffic goes to.
const LATEST: &str = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST";
const REVISION: &str = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION";

/// Where requests went before.
pub struct Before {
    /// The revision that got most of them.
    pub old: String,
    /// What the service asked for.
    asked: Vec<Value>,
    /// The revision that was the latest then.
    latest: String,
    /// What served: revisions and percentages.
    served: Vec<(String, u32)>,
}

/// What the latest revision is once a rollout is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latest {
    /// The one of before, and no other is about to become it.
    Same,
    /// Another.
    Other,
}

impl Before {
    /// Where the requests of a service go now.
    ///
    /// # Errors
    /// When they go nowhere.
    pub fn of(service: &Value) -> Result<Before> {
        let serving = list(&service["trafficStatuses"]);
        let main = serving.iter().max_by_key(|target| percent(target)).filter(|target| percent(target) > 0);
        let main = main.ok_or_else(|| {
            Trouble::new("the service has no revision that serves")
                .next("deploy one that does, with haar deploy or gcloud run deploy")
        })?;
        let latest = serving.iter().find(|target| is_latest(target)).map(|target| &target["revision"]);
        let asked = match list(&service["traffic"]) {
            [] => vec![json!({ "type": LATEST, "percent": 100 })],
            asked => asked.to_vec(),
        };
        Ok(Before {
            old: last_part(&main["revision"]).to_owned(),
            asked,
            latest: last_part(latest.unwrap_or(&service["latestReadyRevision"])).to_owned(),
            served: served(service),
        })
    }

    /// Whether the latest revision got requests because it was the latest.
    pub fn follows_latest(&self) -> bool {
        self.asked.iter().any(|target| is_latest(target) && percent(target) > 0)
    }

    /// What to ask for so that what is about to become the latest revision is reached by its tag, and gets nothing.
    pub fn beside_latest(&self) -> Value {
        self.beside(json!({ "type": LATEST, "percent": 0, "tag": TAG }), 0)
    }

    /// What to ask for so that the new revision gets so many percent, and the others share the rest as they did.
    pub fn at(&self, new: &str, percent: u32) -> Value {
        self.beside(json!({ "type": REVISION, "revision": new, "percent": percent, "tag": TAG }), percent)
    }

    fn beside(&self, canary: Value, its: u32) -> Value {
        let (mut sum, mut targets) = (0, vec![canary]);
        let mut given = 0;
        for target in &self.asked {
            sum += percent(target);
            // Whatever is rounded away goes to those that come later.
            let share = sum * (100 - its) / 100 - given;
            given += share;
            let mut target = self.by_name(target);
            if target["tag"] == TAG {
                target["tag"] = Value::Null;
            }
            if share > 0 || is_tagged(&target) {
                target["percent"] = share.into();
                targets.push(target);
            }
        }
        targets.into()
    }

    /// What to ask for so that the new revision gets everything. Tags stay.
    pub fn all_to(&self, new: &str) -> Value {
        let mut targets = vec![match self.follows_latest() {
            true => json!({ "type": LATEST, "percent": 100 }),
            false => json!({ "type": REVISION, "revision": new, "percent": 100 }),
        }];
        for target in self.asked.iter().filter(|target| is_tagged(target) && target["tag"] != TAG) {
            // A tag of the latest goes along with it only if it did nothing else.
            let mut target = if percent(target) > 0 { self.by_name(target) } else { target.clone() };
            target["percent"] = 0.into();
            targets.push(target);
        }
        targets.into()
    }

    /// What to ask for so that everything is as before.
    pub fn again(&self, latest: Latest) -> Value {
        let as_before = |target: &Value| match latest {
            Latest::Other if percent(target) > 0 => self.by_name(target),
            _ => target.clone(),
        };
        self.asked.iter().map(as_before).collect()
    }

    /// Whether a service asks for this, and what served before serves.
    pub fn is_back(&self, service: &Value, traffic: &Value) -> bool {
        service["traffic"] == *traffic && served(service) == self.served
    }

    /// What the latest revision of the service is, compared with before.
    pub fn latest_of(&self, service: &Value) -> Latest {
        let is_same = last_part(&service["latestReadyRevision"]) == self.latest;
        if is_same && service["reconciling"] != true { Latest::Same } else { Latest::Other }
    }

    /// The shares of before as gcloud's `--to-revisions` takes them.
    pub fn as_flag(&self) -> String {
        let shares =
            self.asked.iter().filter(|target| percent(target) > 0).map(|target| self.by_name(target));
        let shares: Vec<_> =
            shares.map(|target| format!("{}={}", last_part(&target["revision"]), percent(&target))).collect();
        shares.join(",")
    }

    /// Where requests went, in words.
    pub fn in_words(&self) -> String {
        match self.asked.iter().filter(|target| percent(target) > 0).count() {
            1 => format!("all requests go to {}", self.old),
            _ => "requests go where they went before".to_owned(),
        }
    }

    /// A target whose revision is named.
    fn by_name(&self, target: &Value) -> Value {
        let mut target = target.clone();
        if is_latest(&target) {
            target["type"] = REVISION.into();
            target["revision"] = self.latest.as_str().into();
        }
        target
    }
}

fn served(service: &Value) -> Vec<(String, u32)> {
    let all = list(&service["trafficStatuses"]).iter().filter(|target| percent(target) > 0);
    all.map(|target| (last_part(&target["revision"]).to_owned(), percent(target))).collect()
}

fn list(targets: &Value) -> &[Value] {
    targets.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_latest(target: &Value) -> bool {
    target["type"] == LATEST
}

fn is_tagged(target: &Value) -> bool {
    target["tag"].as_str().is_some_and(|tag| !tag.is_empty())
}

fn percent(target: &Value) -> u32 {
    target["percent"].as_u64().and_then(|percent| u32::try_from(percent).ok()).unwrap_or(0).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(revision: &str, percent: u32) -> Value {
        json!({ "type": REVISION, "revision": revision, "percent": percent })
    }

    /// A service that asks for this, and whose latest revision is `two`.
    fn service(asked: &[Value]) -> Value {
        let mut serving = asked.to_vec();
        for target in serving.iter_mut().filter(|target| is_latest(target)) {
            target["revision"] = "two".into();
        }
        json!({ "traffic": asked, "trafficStatuses": serving, "latestReadyRevision": "services/tide/revisions/two" })
    }

    fn shares(targets: &Value) -> Vec<(String, u32)> {
        let name = |target: &Value| match is_latest(target) {
            true => "latest".to_owned(),
            false => target["revision"].as_str().unwrap_or_default().to_owned(),
        };
        list(targets).iter().map(|target| (name(target), percent(target))).collect()
    }

    #[test]
    fn what_was_there_is_asked_for_again_to_the_letter() {
        let asked = [
            named("one", 30),
            json!({ "type": LATEST, "percent": 70 }),
            json!({ "type": REVISION, "revision": "one", "tag": "stable" }),
            json!({ "type": LATEST, "tag": "next" }),
        ];
        let before = Before::of(&service(&asked)).unwrap();
        assert_eq!(before.again(Latest::Same), json!(asked));
        let mut pinned = asked.clone();
        pinned[1] = named("two", 70);
        assert_eq!(before.again(Latest::Other), json!(pinned), "a tag of the latest sends it no requests");
        assert_eq!((before.old.as_str(), before.as_flag().as_str()), ("two", "one=30,two=70"));
    }

    #[test]
    fn the_latest_stays_the_latest_unless_it_is_another() {
        let asked = [json!({ "type": LATEST, "percent": 100 })];
        let now = service(&asked);
        let before = Before::of(&now).unwrap();
        assert_eq!(before.latest_of(&now), Latest::Same);
        let mut later = now.clone();
        later["reconciling"] = true.into();
        assert_eq!(before.latest_of(&later), Latest::Other, "it may be another in a moment");
        later = now.clone();
        later["latestReadyRevision"] = "services/tide/revisions/three".into();
        assert_eq!(before.latest_of(&later), Latest::Other);
        assert_eq!(before.again(Latest::Other), json!([named("two", 100)]));
        let unsaid = json!({ "trafficStatuses": now["trafficStatuses"], "latestReadyRevision": "two" });
        assert_eq!(Before::of(&unsaid).unwrap().again(Latest::Same), json!(asked));
        assert!(Before::of(&json!({})).is_err());
        assert!(before.is_back(&now, &json!(asked)));
        assert!(!before.is_back(&later, &json!([named("two", 100)])), "that is not yet asked for");
    }

    #[test]
    fn at_each_step_the_others_share_the_rest_as_they_did() {
        let asked = [
            named("one", 33),
            named("two", 67),
            json!({ "type": REVISION, "revision": "one", "tag": "stable" }),
            json!({ "type": LATEST, "tag": "next" }),
            json!({ "type": REVISION, "revision": "zero", "tag": TAG }),
        ];
        let before = Before::of(&service(&asked)).unwrap();
        let of = |revision: &str, percent| (revision.to_owned(), percent);
        let beside = before.beside_latest();
        assert_eq!(
            shares(&beside),
            [of("latest", 0), of("one", 33), of("two", 67), of("one", 0), of("two", 0)],
            "a tag of the latest does not go to what is new"
        );
        for its in [1, 10, 50, 99, 100] {
            let sum: u32 = shares(&before.at("three", its)).iter().map(|(_, share)| share).sum();
            assert_eq!(sum, 100, "{its}");
        }
        let half = before.at("three", 50);
        assert_eq!(
            shares(&half),
            [of("three", 50), of("one", 16), of("two", 34), of("one", 0), of("two", 0)]
        );
        let tags = list(&half).iter().filter(|target| target["tag"] == TAG).count();
        assert_eq!(tags, 1, "a tag is one revision's");
        assert_eq!(shares(&before.all_to("three")), [of("three", 100), of("one", 0), of("latest", 0)]);
    }
}
