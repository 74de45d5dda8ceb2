//! Binary Authorization, as far as it is here: a project has no policy but the default one, which lets every image in.
//! What was asked for is kept where the Knative form has it, in annotations, and shown in both forms.

use std::collections::BTreeMap;

use apis::google::cloud::run::v2::{BinaryAuthorization, binary_authorization::BinauthzMethod};
use kernel::{Error, Result};

type Map = BTreeMap<String, String>;

const POLICY: &str = "run.googleapis.com/binary-authorization";
const REASON: &str = "run.googleapis.com/binary-authorization-breakglass";
const DEFAULT: &str = "default";

/// Refuses every policy but the default one.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the policy.
pub(super) fn check(annotations: &Map) -> Result<()> {
    match annotations.get(POLICY).map(String::as_str) {
        None | Some("" | DEFAULT) => Ok(()),
        Some(other) => Err(Error::bad_field(
            POLICY,
            format!(
                "There is no Binary Authorization policy '{other}' here: use '{DEFAULT}', which lets every image in."
            ),
        )),
    }
}

/// Keeps what a message of v2 asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for a policy that is not the default one.
pub(super) fn keep(asked: Option<BinaryAuthorization>, annotations: &mut Map) -> Result<()> {
    let asked = asked.unwrap_or_default();
    let policy = match asked.binauthz_method {
        Some(BinauthzMethod::UseDefault(true)) => DEFAULT.into(),
        Some(BinauthzMethod::Policy(name)) => name,
        Some(BinauthzMethod::UseDefault(false)) | None => String::new(),
    };
    for (key, value) in [(POLICY, policy), (REASON, asked.breakglass_justification)] {
        if !value.is_empty() {
            annotations.insert(key.to_owned(), value);
        }
    }
    check(annotations)
}

/// What was kept, as v2 shows it; its annotations have it no longer.
pub(super) fn shown(annotations: &mut Map) -> Option<BinaryAuthorization> {
    let policy = annotations.remove(POLICY);
    let reason = annotations.remove(REASON).unwrap_or_default();
    (policy.is_some() || !reason.is_empty()).then(|| BinaryAuthorization {
        binauthz_method: policy.map(|_| BinauthzMethod::UseDefault(true)),
        breakglass_justification: reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_shown_and_other_policies_are_none() {
        let asked = |method, reason: &str| {
            Some(BinaryAuthorization {
                binauthz_method: Some(method),
                breakglass_justification: reason.into(),
            })
        };
        for asked in [
            None,
            asked(BinauthzMethod::UseDefault(true), ""),
            asked(BinauthzMethod::UseDefault(true), "drill"),
        ] {
            let mut annotations = Map::from([("sea".to_owned(), "north".to_owned())]);
            keep(asked.clone(), &mut annotations).expect("the default policy is there");
            assert_eq!(shown(&mut annotations), asked);
            assert_eq!(annotations.len(), 1, "{annotations:?}");
        }
        let own = asked(BinauthzMethod::Policy("projects/p/platforms/cloudRun/policies/strict".into()), "");
        let error = keep(own, &mut Map::new()).expect_err("there is no such policy");
        assert!(error.message().contains("policies/strict"), "{error:?}");
    }
}
