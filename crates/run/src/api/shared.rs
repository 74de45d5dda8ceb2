//! What readers and writers of both forms share.

use apis::google::discovery::run::v1 as knative;
use kernel::{Error, Result, names};

/// Generally available, as v2 numbers launch stages.
const GA: i32 = 4;

/// A count that may not be negative.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub(super) fn count(field: &str, value: i32) -> Result<u32> {
    u32::try_from(value).map_err(|_| negative(field))
}

/// What is said of a field that is negative.
pub(super) fn negative(field: &str) -> Error {
    Error::bad_field(field, format!("{field} must not be negative"))
}

/// The launch stage that an annotation names, as v2 numbers it.
pub(super) fn launch_stage(text: Option<&str>) -> i32 {
    match text {
        Some("ALPHA") => 2,
        Some("BETA") => 3,
        Some("GA") => GA,
        _ => 0,
    }
}

/// The annotation for a launch stage; empty for what is generally available.
pub(super) fn stage_name(stage: i32) -> &'static str {
    match stage {
        2 => "ALPHA",
        3 => "BETA",
        _ => "",
    }
}

/// The launch stage as v2 shows it: nothing said is generally available.
pub(super) fn shown_stage(stage: i32) -> i32 {
    if stage == 0 { GA } else { stage }
}

/// The project and the region of `projects/P/locations/R`.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no location.
pub(super) fn location(parent: &str) -> Result<[&str; 2]> {
    names::parse(parent, ["projects", "locations"]).ok_or_else(|| {
        Error::invalid(format!("'{parent}' is not a location: use projects/PROJECT/locations/REGION."))
    })
}

/// What the Knative form answers for something that was deleted.
pub(super) fn gone(group: &str, kind: &str, name: &str, uid: &str) -> knative::Status {
    knative::Status {
        status: Some("Success".into()),
        details: Some(knative::StatusDetails {
            group: Some(group.into()),
            kind: Some(kind.into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}
