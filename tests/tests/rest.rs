//! Google's REST, call by call: what the libraries and tools of the other stories happen not to use.

mod accounts;
mod databases;
mod manager;
mod policies;
mod running;

use serde_json::Value;
use tests::Haar;

/// One API of a haar, called as its owner.
struct Api<'a> {
    haar: &'a Haar,
    host: &'static str,
}

impl<'a> Api<'a> {
    fn new(haar: &'a Haar, host: &'static str) -> Self {
        Api { haar, host }
    }

    /// A call that succeeds.
    #[track_caller]
    fn call(&self, verb: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.haar.api(verb, &format!("{}/{path}", self.host), body.as_ref());
        assert!(answer["error"]["code"].is_null(), "{verb} {path}: {answer}");
        answer
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.call("GET", path, None)
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value) -> Value {
        self.call("POST", path, Some(body))
    }

    #[track_caller]
    fn delete(&self, path: &str) -> Value {
        self.call("DELETE", path, None)
    }

    /// The status of a call that is refused.
    #[track_caller]
    fn refusal(&self, verb: &str, path: &str, body: Option<Value>) -> String {
        let answer = self.haar.api(verb, &format!("{}/{path}", self.host), body.as_ref());
        answer["error"]["status"].as_str().unwrap_or_else(|| panic!("{verb} {path}: {answer}")).to_owned()
    }
}

/// The names in a list of resources.
fn names<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().into_iter().flatten().filter_map(|one| one[field].as_str()).collect()
}
