//! Listings in the Knative form: the same for one region's host and for the global one.

use std::cmp::Reverse;

use apis::google::discovery::run::v1 as knative;
use kernel::{
    Result,
    paging::{Limits, Page},
};

use super::{knative_write, selector::Selector};
use crate::Run;

/// Sizes of a page of services or revisions.
const PAGE: Limits = Limits { usual: 100, most: 500 };
const API_VERSION: &str = "serving.knative.dev/v1";

/// Which part of a listing a request asks for.
pub(super) struct Asked {
    /// How many at most.
    pub(super) limit: Option<i32>,
    /// Where the page before ended.
    pub(super) token: Option<String>,
    /// Which labels they must have.
    pub(super) selector: Option<String>,
}

impl Asked {
    pub(super) fn page(&self, prefix: &str) -> Result<Page> {
        Page::new(PAGE, self.limit.unwrap_or(0), self.token.as_deref().unwrap_or_default(), &[prefix])
    }

    pub(super) fn selector(&self) -> Result<Selector> {
        Selector::parse(self.selector.as_deref().unwrap_or_default())
    }
}

/// The services below a prefix.
///
/// # Errors
/// `INVALID_ARGUMENT` for a selector or a token that is none.
pub(super) fn services(run: &Run, prefix: &str, asked: &Asked) -> Result<knative::ListServicesResponse> {
    let (page, selector) = (asked.page(prefix)?, asked.selector()?);
    let (found, next) = run.services.list(prefix, &page, |_, held| selector.takes(&held.value.labels));
    Ok(knative::ListServicesResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("ServiceList".into()),
        items: found.iter().map(|(_, held)| knative_write::service(run, held)).collect(),
        metadata: Some(metadata(next)),
        unreachable: Vec::new(),
    })
}

/// The revisions below a prefix, the newest first.
///
/// # Errors
/// Those of [`services`].
pub(super) fn revisions(run: &Run, prefix: &str, asked: &Asked) -> Result<knative::ListRevisionsResponse> {
    let (page, selector) = (asked.page(prefix)?, asked.selector()?);
    let of_service = of_service(prefix, &selector);
    let prefix = of_service.as_deref().unwrap_or(prefix);
    let (mut found, next) = run
        .revisions
        .list(prefix, &page, |_, held| selector.takes(&knative_write::revision_labels(&held.value)));
    found.sort_by_key(|(_, held)| Reverse(held.created));
    Ok(knative::ListRevisionsResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("RevisionList".into()),
        items: found.iter().map(|(_, held)| knative_write::revision(run, held)).collect(),
        metadata: Some(metadata(next)),
        unreachable: Vec::new(),
    })
}

/// Where the revisions of the one service lie that a selector asks for: gcloud lists those of a service like this, and a
/// region may have a thousand for each.
fn of_service(prefix: &str, selector: &Selector) -> Option<String> {
    let service = selector.only("serving.knative.dev/service")?;
    prefix.ends_with("/services/").then(|| format!("{prefix}{service}/revisions/"))
}

/// gcloud reads the metadata of every list, so it is there even when empty.
pub(super) fn metadata(next: String) -> knative::ListMeta {
    knative::ListMeta { r#continue: Some(next).filter(|next| !next.is_empty()), ..Default::default() }
}
