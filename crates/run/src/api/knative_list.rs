//! Listings in the Knative form: the same for one region's host and for the global one.

use std::cmp::Reverse;

use apis::google::discovery::run::v1 as knative;
use kernel::{
    Result,
    paging::{Limits, Page},
};

use super::{knative_write, selector::Selector};
use crate::{
    Run,
    change::Place,
    record::{Kind, Service},
};

/// The label of a worker pool's revisions that names it.
pub(super) const POOL_LABEL: &str = "run.googleapis.com/workerPool";

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
    let is_asked = |service: &Service| service.kind() == Kind::Service && selector.takes(&service.labels);
    let (found, next) = run.services.list(prefix, &page, |_, held| is_asked(&held.value));
    Ok(knative::ListServicesResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("ServiceList".into()),
        items: found.iter().map(|(_, held)| knative_write::service(run, held)).collect(),
        metadata: Some(metadata(next)),
        unreachable: Vec::new(),
    })
}

/// The revisions in a place, of services and of worker pools, the newest first.
///
/// # Errors
/// Those of [`services`].
pub(super) fn revisions(run: &Run, place: &Place, asked: &Asked) -> Result<knative::ListRevisionsResponse> {
    let selector = asked.selector()?;
    let prefix = revisions_prefix(place, &selector);
    let page = asked.page(&prefix)?;
    let (mut found, next) = run
        .revisions
        .list(&prefix, &page, |_, held| selector.takes(&knative_write::revision_labels(&held.value)));
    found.sort_by_key(|(_, held)| Reverse(held.created));
    Ok(knative::ListRevisionsResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("RevisionList".into()),
        items: found.iter().map(|(_, held)| knative_write::revision(run, held)).collect(),
        metadata: Some(metadata(next)),
        unreachable: Vec::new(),
    })
}

/// Where the revisions of the one service or worker pool lie that a selector asks for: gcloud lists them like this, and a
/// region may have a thousand for each. Else where all lie.
fn revisions_prefix(place: &Place, selector: &Selector) -> String {
    let whose = [("serving.knative.dev/service", Kind::Service), (POOL_LABEL, Kind::WorkerPool)];
    let only = whose.into_iter().find_map(|(label, kind)| Some((kind, selector.only(label)?)));
    match only {
        _ if place.region == "-" => place.prefix(),
        Some((kind, name)) => format!("{}/{}/{name}/revisions/", place.location(), kind.collection()),
        None => format!("{}/", place.location()),
    }
}

/// gcloud reads the metadata of every list, so it is there even when empty.
pub(super) fn metadata(next: String) -> knative::ListMeta {
    knative::ListMeta { r#continue: Some(next).filter(|next| !next.is_empty()), ..Default::default() }
}
