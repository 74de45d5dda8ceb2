//! Paths of the methods that all APIs share, where Google declares them outside the interface tables: each API's
//! configuration puts its operations below its own version and locations
//! (<https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations>). None of those served here has a
//! path to cancel one.

use apis::{MethodId, google::longrunning::operations, schema::HttpBinding};

/// What a shared method is bound to besides what the tables say.
pub(crate) fn bindings(id: MethodId) -> &'static [HttpBinding] {
    let by_method = [
        (operations::GET_OPERATION.id(), ONE),
        (operations::DELETE_OPERATION.id(), REMOVE),
        (operations::LIST_OPERATIONS.id(), ALL),
        (operations::WAIT_OPERATION.id(), WAIT),
    ];
    by_method.into_iter().find(|(method, _)| *method == id).map_or(&[], |(_, bindings)| bindings)
}

const fn bound(verb: &'static str, template: &'static str, body: &'static str) -> HttpBinding {
    HttpBinding { verb, template, body, response_body: "" }
}

const ONE: &[HttpBinding] = &[
    bound("GET", "/v1/{name=projects/*/locations/*/operations/*}", ""),
    bound("GET", "/v2/{name=projects/*/locations/*/operations/*}", ""),
];
const REMOVE: &[HttpBinding] = &[
    bound("DELETE", "/v1/{name=projects/*/locations/*/operations/*}", ""),
    bound("DELETE", "/v2/{name=projects/*/locations/*/operations/*}", ""),
];
const ALL: &[HttpBinding] = &[
    bound("GET", "/v1/{name=projects/*/locations/*}/operations", ""),
    bound("GET", "/v2/{name=projects/*/locations/*}/operations", ""),
];
const WAIT: &[HttpBinding] = &[
    bound("POST", "/v1/{name=projects/*/locations/*/operations/*}:wait", "*"),
    bound("POST", "/v2/{name=projects/*/locations/*/operations/*}:wait", "*"),
];
