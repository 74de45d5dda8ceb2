//! Domain mappings: services under names of people's own.
//!
//! A mapping is kept as it was asked for; what has become of it follows from what there is when somebody looks: it is
//! ready while its service is and nobody else holds the domain. Whoever mapped a domain first holds it, in whichever
//! project and region, until somebody maps it by force.
//!
//! On this machine every name is everybody's: nobody has to prove that a domain is theirs, and nothing but instances
//! resolves it. Requests with the name reach the service at haar's port, and by its proxy and from instances with a
//! certificate of its own authority too. The records that a name server would need are shown as Google shows them.
//! (<https://cloud.google.com/run/docs/mapping-custom-domains>)

use std::{collections::BTreeMap, sync::Arc};

use kernel::{Caller, Error, Result, collection::Held, mirror::Record};
use prost::Message;
use prost_types::Timestamp;

use crate::{
    Run,
    change::{Place, who},
    reconcile::Failure,
    record::{Condition, Kind, Service, State},
    rules, words,
};

/// The longest domain, in bytes.
const LONGEST: usize = 253;
/// Domains that lead elsewhere already: nothing below them can be mapped.
const TAKEN: [&str; 7] =
    ["googleapis.com", "google.com", "google.internal", "pkg.dev", "gcr.io", "run.app", "run.localhost"];

/// A mapping, as it was asked for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DomainMapping {
    /// The project's id.
    #[prost(string, tag = "1")]
    pub(crate) project: String,
    /// The region.
    #[prost(string, tag = "2")]
    pub(crate) region: String,
    /// The domain.
    #[prost(string, tag = "3")]
    pub(crate) domain: String,
    /// A UUID.
    #[prost(string, tag = "4")]
    pub(crate) uid: String,
    /// When it was made.
    #[prost(message, optional, tag = "5")]
    pub(crate) created: Option<Timestamp>,
    /// Who made it, by e-mail address.
    #[prost(string, tag = "6")]
    pub(crate) creator: String,
    /// People's labels.
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations as they came.
    #[prost(btree_map = "string, string", tag = "8")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// The service, in the same project and region.
    #[prost(string, tag = "9")]
    pub(crate) service: String,
    /// Whether the domain was taken from whoever had it.
    #[prost(bool, tag = "10")]
    pub(crate) forced: bool,
    /// `AUTOMATIC` or `NONE`.
    #[prost(string, tag = "11")]
    pub(crate) certificate_mode: String,
}

impl Record for DomainMapping {
    const FORMAT: u8 = 1;
}

impl DomainMapping {
    /// `projects/P/locations/R/domainmappings/D`.
    pub(crate) fn resource_name(&self) -> String {
        format!("projects/{}/locations/{}/domainmappings/{}", self.project, self.region, self.domain)
    }

    /// The service that it leads to.
    pub(crate) fn place(&self) -> Place {
        Place {
            kind: Kind::Service,
            project: self.project.clone(),
            region: self.region.clone(),
            name: self.service.clone(),
        }
    }
}

impl Run {
    /// Looks whether this could be mapped.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no domain, `ALREADY_EXISTS` in the same region.
    pub(crate) fn check_domain(&self, mapping: &DomainMapping) -> Result<()> {
        check(mapping)?;
        match self.domains.find(&mapping.resource_name()) {
            Some(_) => Err(words::exists(&mapping.domain)),
            None => Ok(()),
        }
    }

    /// Stores a new mapping; its domain leads to its service from now on, if both are there to be had.
    ///
    /// # Errors
    /// Those of [`Run::check_domain`].
    pub(crate) async fn map_domain(
        self: &Arc<Self>,
        caller: &Caller,
        mut mapping: DomainMapping,
    ) -> Result<Held<DomainMapping>> {
        check(&mapping)?;
        mapping.uid = rules::new_uid()?;
        mapping.created = Some(self.ports.clock.timestamp());
        mapping.creator = who(caller);
        let name = mapping.resource_name();
        let held = self.domains.create(&name, mapping).await?;
        self.route_domain(&held.value);
        Ok(held)
    }

    /// Deletes a mapping; its domain goes back to whoever else has mapped it.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn unmap_domain(self: &Arc<Self>, name: &str) -> Result<Held<DomainMapping>> {
        let deleted = self.domains.delete(name, "").await?;
        self.route_domain(&deleted.value);
        Ok(deleted)
    }

    /// Routes every service that a domain led to, or leads to now.
    fn route_domain(self: &Arc<Self>, mapping: &DomainMapping) {
        self.route(&mapping.place().resource_name());
        // Who loses the domain lets go of it before who has it takes it.
        let holder = self.holder(&mapping.domain).map(|held| held.value.place().resource_name());
        for other in self.mappings_of(&mapping.domain) {
            let service = other.value.place().resource_name();
            if Some(&service) != holder.as_ref() {
                self.route(&service);
            }
        }
        if let Some(holder) = holder {
            self.route(&holder);
        }
    }

    /// All mappings of a domain, the oldest first.
    fn mappings_of(&self, domain: &str) -> Vec<Held<DomainMapping>> {
        let found = self.domains.mirror().scan("", "", usize::MAX, |_, held| held.value.domain == domain);
        let mut all: Vec<_> = found.into_iter().map(|(_, held)| held).collect();
        all.sort_by_key(|held| held.created);
        all
    }

    /// The mapping that a domain follows.
    fn holder(&self, domain: &str) -> Option<Held<DomainMapping>> {
        let all = self.mappings_of(domain);
        let forced = all.iter().rposition(|held| held.value.forced).unwrap_or(0);
        all.into_iter().nth(forced)
    }

    /// The domains that lead to a service.
    pub(crate) fn domains_of(&self, service: &Service) -> Vec<Box<str>> {
        let prefix = format!("projects/{}/locations/{}/domainmappings/", service.project, service.region);
        let its =
            self.domains.mirror().scan(&prefix, "", usize::MAX, |_, held| held.value.service == service.name);
        let is_holder = |mapping: &DomainMapping| {
            self.holder(&mapping.domain).is_some_and(|holder| holder.value.uid == mapping.uid)
        };
        let held = its.into_iter().filter(|(_, held)| is_holder(&held.value));
        held.map(|(_, held)| held.value.domain.as_str().into()).collect()
    }

    /// Whether a host that is none of Google's leads to a service: asked of all others, so what it says of those that
    /// services have by themselves does not matter.
    pub fn is_mapped(&self, host: &str) -> bool {
        // Nearly always nothing is mapped.
        !self.domains.mirror().is_empty() && self.ingress.get().is_some_and(|ingress| ingress.knows(host))
    }

    /// Whether a mapping leads to its service.
    pub(crate) fn mapped(&self, mapping: &DomainMapping) -> Condition {
        let failed =
            |reason, why| Condition { since: mapping.created, ..Failure::new(reason, why).into_condition() };
        let domain = &mapping.domain;
        if self.holder(domain).is_none_or(|holder| holder.value.uid != mapping.uid) {
            let why = format!("Domain '{domain}' is already mapped to another service.");
            return failed("MappingAlreadyExists", why);
        }
        let Some(service) = self.services.find(&mapping.place().resource_name()) else {
            return failed("RouteMissing", format!("Route '{}' does not exist.", mapping.service));
        };
        match service.serving.is_empty() {
            false => Condition { state: State::True.into(), since: mapping.created, ..Condition::default() },
            true => Condition {
                state: State::Unknown.into(),
                reason: "RouteNotReady".into(),
                message: format!("Route '{}' is not ready.", mapping.service),
                since: mapping.created,
            },
        }
    }
}

/// Refuses what cannot be mapped.
fn check(mapping: &DomainMapping) -> Result<()> {
    let domain = &mapping.domain;
    if !is_domain(domain) {
        return Err(Error::bad_field(
            "metadata.name",
            format!("'{domain}' is not a domain such as www.example.com."),
        ));
    }
    let is_below = |taken: &&&str| domain == **taken || domain.ends_with(&format!(".{taken}"));
    if let Some(taken) = TAKEN.iter().find(is_below) {
        let why = format!("'{domain}' cannot be mapped: what is below {taken} leads elsewhere.");
        return Err(Error::bad_field("metadata.name", why));
    }
    if mapping.service.is_empty() {
        return Err(Error::bad_field("spec.routeName", "must not be empty"));
    }
    if !matches!(mapping.certificate_mode.as_str(), "" | "AUTOMATIC" | "NONE") {
        let why = format!("'{}' is neither AUTOMATIC nor NONE", mapping.certificate_mode);
        return Err(Error::bad_field("spec.certificateMode", why));
    }
    Ok(())
}

/// Whether this is a host's name of at least two labels, in lower case.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.len() <= LONGEST && text.contains('.') && !is_number && text.split('.').all(is_label)
}

/// The records that a name server would need, each as (name, type, data): those of Google's front end. A name of two
/// labels counts as the top of its zone, which cannot be an alias.
pub(crate) fn records(domain: &str) -> Vec<(&str, &'static str, String)> {
    match domain.split_once('.') {
        Some((name, zone)) if zone.contains('.') => vec![(name, "CNAME", "ghs.googlehosted.com.".to_owned())],
        _ => {
            let four = [32, 34, 36, 38].map(|part| ("", "A", format!("216.239.{part}.21")));
            let six = [32, 34, 36, 38].map(|part| ("", "AAAA", format!("2001:4860:4802:{part}::15")));
            four.into_iter().chain(six).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_names_of_people_s_own_can_be_mapped() {
        let refused = |domain: &str| {
            let mapping =
                DomainMapping { domain: domain.into(), service: "tide".into(), ..DomainMapping::default() };
            check(&mapping).is_err()
        };
        for domain in ["example.com", "www.example.com", "shop.localhost", "a-1.b.c.d"] {
            assert!(!refused(domain), "{domain}");
        }
        for domain in [
            "",
            "com",
            "Example.com",
            "-a.com",
            "a..com",
            "a.com.",
            "*.example.com",
            "1.2.3.4",
            "a b.com",
            "storage.googleapis.com",
            "googleapis.com",
            "x.run.app",
            "a.run.localhost",
            "metadata.google.internal",
        ] {
            assert!(refused(domain), "{domain}");
        }
    }

    #[test]
    fn a_zone_has_addresses_and_what_is_in_it_an_alias() {
        let of = |domain| records(domain).into_iter().map(|(name, kind, _)| (name, kind)).collect::<Vec<_>>();
        assert_eq!(of("www.example.com"), [("www", "CNAME")]);
        assert_eq!(of("example.com").len(), 8);
        assert_eq!(records("example.com")[0].2, "216.239.32.21");
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(domain in "[a-zA-Z0-9.\u{e9}*-]{0,300}") {
            let mapping = DomainMapping { domain: domain.clone(), ..DomainMapping::default() };
            let _ = (check(&mapping), records(&domain));
        }
    }
}
