//! The reckoning: what clients were told, beside what the program wrote and what was killed when.

use std::{collections::HashMap, fmt, time::Duration};

use serde_json::json;
use tests::PROJECT;

use super::{Soak, clients::Failure};

/// How long after a kill a request may begin and still meet what was killed, on a busy machine.
const AFTERMATH: Duration = Duration::from_secs(2);
/// How long after the wish to kill it haar may still take requests.
const DYING: Duration = Duration::from_millis(500);
/// What a program wrote within this time before haar was killed may have been in a pipe.
const IN_PIPES: Duration = Duration::from_secs(2);

/// A request, and how it ended.
pub(super) struct Request {
    pub(super) identity: String,
    /// Since the soak began, as all times here.
    pub(super) begun: Duration,
    pub(super) ended: Duration,
    /// Whether it may be repeated.
    pub(super) is_safe: bool,
    pub(super) outcome: Result<(), Failure>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Instance,
    Haar,
}

/// A kill: from before it, to when it was known to have been done, or haar was back.
#[derive(Clone, Copy)]
pub(super) struct Disruption {
    pub(super) what: What,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl Disruption {
    /// Whether a request was under way then. One that began while haar was away was not: it waited.
    fn met(&self, request: &Request) -> bool {
        let until = match self.what {
            What::Instance => self.to + AFTERMATH,
            What::Haar => self.from + DYING,
        };
        request.begun <= until && request.ended >= self.from
    }
}

/// How much happened.
pub(super) struct Kinds {
    pub(super) instances: usize,
    haars: usize,
    requests: usize,
    failed: usize,
    waited: usize,
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kinds { instances, haars, requests, failed, waited } = self;
        write!(
            f,
            "{requests} requests, {failed} failed, all of them as {instances} instances and {haars} haars were killed; \
             {waited} waited for haar to come back"
        )
    }
}

/// Insists on all that must hold.
pub(super) fn reckon(soak: &Soak) -> Kinds {
    let requests = soak.requests.lock().expect("no client panicked");
    let disruptions = soak.disruptions.lock().expect("no client panicked");
    let served = served(soak);
    let faults: Vec<_> = requests
        .iter()
        .filter_map(|request| Some((request, fault(request, &disruptions, &served)?)))
        .take(20)
        .map(|(request, why)| format!("{why}\n    {}", logged(soak, request)))
        .collect();
    assert!(faults.is_empty(), "of {} requests:\n{}", requests.len(), faults.join("\n"));
    let count = |what: What| disruptions.iter().filter(|one| one.what == what).count();
    let haars = disruptions.iter().filter(|one| one.what == What::Haar);
    let waited = |haar: &Disruption| {
        requests.iter().filter(|request| (haar.from..haar.to).contains(&request.begun)).count()
    };
    Kinds {
        instances: count(What::Instance),
        haars: count(What::Haar),
        requests: requests.len(),
        failed: requests.iter().filter(|request| request.outcome.is_err()).count(),
        waited: haars.map(waited).sum(),
    }
}

/// What is wrong with a request, if anything is.
fn fault(request: &Request, disruptions: &[Disruption], served: &HashMap<String, usize>) -> Option<String> {
    let met = |what: What| disruptions.iter().any(|one| one.what == what && one.met(request));
    let is_excused = met(What::Instance) || met(What::Haar);
    let times = served.get(&request.identity).copied().unwrap_or(0);
    let why = match &request.outcome {
        Err(failure) if failure.starts_with("WRONG") || failure.starts_with("REFUSED") => failure.clone(),
        Err(failure) if !is_excused => format!("failed: {failure}"),
        Ok(()) if times == 0 && !may_be_in_pipes(request, disruptions) => "answered, and never served".into(),
        _ if times > 1 && !(request.is_safe && is_excused) => format!("served {times} times"),
        _ => return None,
    };
    let near = disruptions.iter().map(|one| one.from).rfind(|from| *from <= request.ended);
    Some(format!(
        "{} {:?}..{:?} (the last kill before its end: {near:?}): {why}",
        request.identity, request.begun, request.ended
    ))
}

/// What haar's own log says of a request: its revision, its instance.
fn logged(soak: &Soak, request: &Request) -> String {
    let body = json!({
        "resourceNames": [format!("projects/{PROJECT}")],
        "filter": format!("httpRequest.requestUrl:\"/{}\"", request.identity),
    });
    let page = soak.haar.api("POST", "logging.googleapis.com/v2/entries:list", Some(&body));
    let entry = &page["entries"][0];
    let parts =
        [&entry["resource"]["labels"]["revision_name"], &entry["labels"], &entry["httpRequest"]["latency"]];
    parts.map(ToString::to_string).join(" ")
}

/// Whether haar was killed so soon after that the program's line may not have been read.
fn may_be_in_pipes(request: &Request, disruptions: &[Disruption]) -> bool {
    let haars = disruptions.iter().filter(|one| one.what == What::Haar);
    haars.map(|haar| haar.from).any(|from| request.ended + IN_PIPES > from && request.begun < from + DYING)
}

/// How often the program says that it served a request, in its log.
fn served(soak: &Soak) -> HashMap<String, usize> {
    // What the last instances wrote arrives a moment after.
    std::thread::sleep(Duration::from_secs(2));
    let mut served = HashMap::new();
    let mut token = String::new();
    loop {
        let body = json!({
            "resourceNames": [format!("projects/{PROJECT}")],
            "filter": "textPayload:\"served \"",
            "pageSize": 1000,
            "pageToken": token,
        });
        let page = soak.haar.api("POST", "logging.googleapis.com/v2/entries:list", Some(&body));
        assert!(page["error"].is_null(), "{page:#}");
        for entry in page["entries"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let identity = entry["textPayload"].as_str().and_then(|text| text.strip_prefix("served "));
            *served.entry(identity.unwrap_or_default().to_owned()).or_default() += 1;
        }
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return served,
        }
    }
}
