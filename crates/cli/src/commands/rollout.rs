//! `haar rollout`: a new revision takes over by steps, or does not.
//!
//! What a careful pipeline does in many jobs, in one command: deploy without traffic, ask the new revision by its tag,
//! give it a part of the requests and compare it with the old one, then more, then all; and take everything back when it
//! is worse. All changes are calls of Cloud Run's own API, as the owner. The numbers are the ingress's own counters:
//! they cost nothing to keep and a few microseconds to read, where the request log would be read line by line.
//!
//! Declined: requests of its own to have something to compare. Where nobody calls, that is said, and it goes on.

mod judge;
mod traffic;

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use self::{
    judge::{Counts, Verdict, judge},
    traffic::{Before, Latest, TAG},
};
use super::deploy::{
    google::Google,
    last_part,
    screen::{Screen, Step},
    service::{self, Extras},
    source,
    wanted::Wanted,
};
use crate::{
    address, client,
    data::DataDir,
    report::{self, Result, Trouble},
};

/// How often the numbers are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Deploy a new revision by steps, and take it back if it is worse
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["image", "source"])))]
pub struct Rollout {
    /// The service
    service: String,
    /// The image of the new revision
    #[arg(long)]
    image: Option<String>,
    /// The folder to build it from
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// The region
    #[arg(long, default_value = "us-central1")]
    region: String,
    /// The project, if not the usual one
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// A path that the new revision must answer with 2xx or 3xx before it gets requests; can be given more than once
    #[arg(long = "check", value_name = "PATH", value_parser = path)]
    checks: Vec<String>,
    /// How long each step is watched
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time)]
    watch: Duration,
    /// The percentages of requests that it gets, one after the other
    #[arg(long, default_value = "10,50,100", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100))]
    steps: Vec<u32>,
    /// How many percent of its requests may fail beyond what fails on the old revision
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    errors: f64,
}

/// A rollout under way.
struct Under<'a> {
    google: &'a Google<'a>,
    wanted: &'a Wanted,
    screen: &'a Screen,
    /// Where requests went before.
    before: Before,
}

/// Why a rollout is taken back.
struct Worse(String);

impl Rollout {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let running = data.require_running()?;
        let steps = settle(&self.steps)?;
        let google = Google::new(&running, self.project.clone())?;
        let directory = self.source.clone().unwrap_or_else(|| ".".into());
        let wanted = Wanted::settle(&directory, Some(self.service.clone()), self.region.clone())?;
        let screen = Screen::new();
        let service = service::find(&google, &wanted)?.ok_or_else(|| {
            Trouble::new(format!("there is no service {} in {}", wanted.name, wanted.region))
                .next("the first revision has nothing to be compared with: make it with haar deploy or gcloud run deploy")
        })?;
        let image = match &self.image {
            Some(image) => image.clone(),
            None => source::build(&google, &wanted, &screen, None, false)?.image,
        };
        let under =
            Under { google: &google, wanted: &wanted, screen: &screen, before: Before::of(&service)? };
        let new = under.or_back(|| under.deploy(&service, &image))?;
        match under.or_back(|| self.lead(&under, &new, &steps))? {
            Ok(()) => {
                report::print(format!("{} serves {new}\n", wanted.name))?;
                Ok(ExitCode::SUCCESS)
            }
            Err(Worse(why)) => {
                under.take_back(&new)?;
                report::print(format!("{} serves {} again: {why}\n", wanted.name, under.before.old))?;
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// From the first question to all requests.
    fn lead(&self, under: &Under<'_>, new: &str, steps: &[u32]) -> Result<Result<(), Worse>> {
        if let Err(worse) = under.check(&self.checks)? {
            return Ok(Err(worse));
        }
        let began = under.counters()?;
        for percent in steps {
            under.shift(new, *percent)?;
            if let Err(worse) = under.watch(new, *percent, &began, self)? {
                return Ok(Err(worse));
            }
        }
        under.finish(new)?;
        Ok(Ok(()))
    }
}

impl Under<'_> {
    /// Deploys the new revision, to be reached by its tag only.
    fn deploy(&self, service: &Value, image: &str) -> Result<String> {
        let step = self.screen.step("deploy");
        step.now("waiting until it can serve");
        let template = service::template(Some(service), image, &Extras::default());
        let body = json!({ "template": template, "traffic": self.before.beside_latest() });
        match self.change(body, "template,traffic")? {
            Ok(service) => {
                let new = last_part(&service["latestReadyRevision"]).to_owned();
                if new == self.before.old {
                    return Err(Trouble::new(format!(
                        "{new} is that image already; there is nothing to roll out"
                    )));
                }
                step.done(&format!("{new}, without requests"));
                Ok(new)
            }
            Err(refusal) => {
                self.screen.quote(&service::last_words(self.google, self.wanted));
                Err(Trouble::new(refusal.split("\n\n").next().unwrap_or_default())
                    .next(format!("{} goes on serving; mend the app and try again", self.before.old)))
            }
        }
    }

    /// Asks the new revision by its tag.
    fn check(&self, paths: &[String]) -> Result<Result<(), Worse>> {
        if paths.is_empty() {
            return Ok(Ok(()));
        }
        let service = self.service()?;
        let tagged = service["trafficStatuses"].as_array().into_iter().flatten().find(|t| t["tag"] == TAG);
        let host = address::authority(tagged.and_then(|tagged| tagged["uri"].as_str()).unwrap_or_default());
        for path in paths {
            let step = self.screen.step("check");
            step.now(path);
            let Ok(answer) = client::visit(self.google.running, host, path) else {
                return Ok(Err(Worse(format!("{path} is not answered"))));
            };
            if !(200..400).contains(&answer.status) {
                let hint = match answer.status {
                    401 | 403 => " (only those who may invoke the service can check it)",
                    _ => "",
                };
                return Ok(Err(Worse(format!("{path} is answered with {}{hint}", answer.status))));
            }
            step.done(&format!("{path} is answered with {}", answer.status));
        }
        Ok(Ok(()))
    }

    /// Gives the new revision so many percent of the requests.
    fn shift(&self, new: &str, percent: u32) -> Result<()> {
        self.redirect(&self.before.at(new, percent))
    }

    /// Compares the two for a while.
    fn watch(&self, new: &str, percent: u32, began: &Value, asked: &Rollout) -> Result<Result<(), Worse>> {
        let step = self.screen.step("watch");
        let (start, name) = (Instant::now(), |revision: &str| self.full_name(revision));
        let at_first = self.counters()?;
        loop {
            let now = self.counters()?;
            let of = |revision: &str, since: &Value| {
                Counts::read(&now, &name(revision)).since(&Counts::read(since, &name(revision)))
            };
            // The old one's all along: at 100 % it has no requests any more.
            let (its, olds) = (of(new, &at_first), of(&self.before.old, began));
            let left = asked.watch.saturating_sub(start.elapsed());
            show(&step, percent, &its, &olds, left);
            match judge(&its, &olds, asked.errors / 1e2) {
                Verdict::Bad(why) => {
                    step.done(&format!("{percent} %: {}; {why}", its.in_words()));
                    return Ok(Err(Worse(why)));
                }
                verdict if left.is_zero() => {
                    let few = if verdict == Verdict::Unknown { "; too few to tell" } else { "" };
                    step.done(&format!("{percent} %: {}{few}", its.in_words()));
                    return Ok(Ok(()));
                }
                _ => thread::sleep(LOOK.min(left)),
            }
        }
    }

    /// The new one has everything, without a tag.
    fn finish(&self, new: &str) -> Result<()> {
        self.redirect(&self.before.all_to(new))
    }

    /// Does what changes the traffic. Should that come to no end, the traffic goes back first.
    fn or_back<T>(&self, attempt: impl FnOnce() -> Result<T>) -> Result<T> {
        attempt().map_err(|trouble| match self.put_back() {
            Ok(_) => {
                self.screen.line("back", &self.before.in_words());
                trouble
            }
            Err(_) => trouble.next(self.by_hand()),
        })
    }

    /// Everything is as before, but for what follows the latest revision, if that is the one that was worse.
    fn take_back(&self, new: &str) -> Result<()> {
        let step = self.screen.step("back");
        let latest = self.put_back().map_err(|trouble| trouble.next(self.by_hand()))?;
        step.done(&self.before.in_words());
        if self.before.follows_latest() && latest == Latest::Other {
            self.screen
                .line("note", &format!("{new} stays, without requests; later deploys wait for --to-latest"));
        }
        Ok(())
    }

    fn put_back(&self) -> Result<Latest> {
        let service = self.service()?;
        let latest = self.before.latest_of(&service);
        let traffic = self.before.again(latest);
        if !self.before.is_back(&service, &traffic)
            && let Err(trouble) = self.redirect(&traffic)
            // A change is also said to have failed where all that fails is a revision of before.
            && !self.before.is_back(&self.service()?, &traffic)
        {
            return Err(trouble);
        }
        Ok(latest)
    }

    /// What a person can do where this could not.
    fn by_hand(&self) -> String {
        let Wanted { name, region, .. } = self.wanted;
        let (project, shares) = (&self.google.project, self.before.as_flag());
        format!(
            "see where its requests go; to send them back: haar exec -- gcloud run services update-traffic {name} \
             --project {project} --region {region} --to-revisions {shares}"
        )
    }

    fn redirect(&self, traffic: &Value) -> Result<()> {
        self.change(json!({ "traffic": traffic }), "traffic")?.map(drop).map_err(Trouble::new)
    }

    /// Changes the service and waits; gives it, or Cloud Run's reason.
    fn change(&self, body: Value, mask: &str) -> Result<Result<Value, String>> {
        let url = format!("{}?updateMask={mask}", self.url());
        match self.google.ask("PATCH", &url, Some(body))? {
            Ok(operation) => {
                let ended = self.google.finish_run(&self.wanted.host(), operation)?;
                Ok(ended.map_err(|refusal| refusal.message))
            }
            Err(refusal) => Ok(Err(refusal.message)),
        }
    }

    fn service(&self) -> Result<Value> {
        self.google.call("GET", &self.url(), None)
    }

    fn counters(&self) -> Result<Value> {
        client::control(self.google.running, "GET", "counters", None)
    }

    fn url(&self) -> String {
        let parent = self.wanted.parent(&self.google.project);
        format!("{}/v2/{parent}/services/{}", self.wanted.host(), self.wanted.name)
    }

    fn full_name(&self, revision: &str) -> String {
        let parent = self.wanted.parent(&self.google.project);
        format!("{parent}/services/{}/revisions/{revision}", self.wanted.name)
    }
}

fn show(step: &Step<'_>, percent: u32, new: &Counts, old: &Counts, left: Duration) {
    step.now(&format!(
        "{percent} %, {} s left: new {} · old {}",
        left.as_secs(),
        new.in_words(),
        old.in_words()
    ));
}

/// The steps, which go up and end with everything.
fn settle(steps: &[u32]) -> Result<Vec<u32>> {
    if !steps.is_sorted_by(|one, next| one < next) {
        return Err(Trouble::new("the steps do not go up").next("for example: --steps 10,50,100"));
    }
    let mut steps = steps.to_vec();
    if steps.last() != Some(&100) {
        steps.push(100);
    }
    Ok(steps)
}

fn path(text: &str) -> Result<String, String> {
    let is_sound = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_sound { Ok(text.into()) } else { Err("give a path such as /status".into()) }
}

/// `30s`, `2m`, `500ms`; a number alone is seconds.
fn time(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u32 = number.parse().map_err(|_| "give a time such as 30s or 2m")?;
    match unit {
        "ms" => Ok(Duration::from_millis(number.into())),
        "" | "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(u64::from(number) * 60)),
        _ => Err("give a time such as 30s or 2m".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_steps_are_read() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1s", "3 h", "99999999999s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(settle(&[10, 50]).unwrap(), [10, 50, 100]);
        assert_eq!(settle(&[100]).unwrap(), [100]);
        assert!(settle(&[50, 10]).is_err() && settle(&[10, 10]).is_err());
        assert!(path("/a?b=c").is_ok() && path("a").is_err() && path("/a b").is_err());
    }
}
