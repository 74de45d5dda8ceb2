//! The audit log: which calls policies want written down, and what an entry says.
//!
//! Admin writes are always written, refused ones too. Data access is written where the `auditConfigs` of the project's
//! policy switch its kind on for the service or for all, and not for exempted members; without any, the question
//! costs one word of memory.
//!
//! Left out: request and response (secrets pass through them), and entries of calls above projects, whose logs are not
//! kept here.
//!
//! Source: <https://cloud.google.com/logging/docs/audit/configure-data-access>,
//! <https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog>.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use apis::google::{
    api::MonitoredResource,
    cloud::audit::{AuditLog, AuthenticationInfo, AuthorizationInfo, RequestMetadata},
    iam::v1::audit_log_config::LogType,
    logging::{
        r#type::LogSeverity,
        v2::{LogEntry, log_entry::Payload},
    },
    rpc::{Status, context::attribute_context},
};
use arc_swap::ArcSwap;
use kernel::{
    Principal, Resource,
    audit::{Access, Call},
    error::Detail,
    names::{RESOURCE_MANAGER, in_project},
    services,
};
use prost::Message;

use crate::{Iam, SERVICE, records::AuditRecord};

/// What policies say of the audit log, by the resource they belong to.
#[derive(Default)]
pub(crate) struct Audited {
    any: AtomicBool,
    configs: ArcSwap<HashMap<String, Vec<AuditRecord>>>,
    /// Held while the table is made anew.
    writing: Mutex<()>,
}

impl Audited {
    /// Takes in what the policy of a resource says.
    pub(crate) fn put(&self, key: &str, configs: &[AuditRecord]) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.configs.load();
        if configs.is_empty() && !now.contains_key(key) {
            return;
        }
        let mut next = (**now).clone();
        match configs {
            [] => next.remove(key),
            configs => next.insert(key.to_owned(), configs.to_vec()),
        };
        self.any.store(!next.is_empty(), Ordering::Release);
        self.configs.store(next.into());
    }

    /// Whether the policy of a project wants calls of this kind to a service written, when this member makes them.
    fn wants(&self, project: &str, service: &str, access: Access, member: &str) -> bool {
        let kind = match access {
            Access::AdminWrite => return true,
            Access::AdminRead => LogType::AdminRead,
            Access::DataRead => LogType::DataRead,
            Access::DataWrite => LogType::DataWrite,
        } as i32;
        let configs = self.configs.load();
        let Some(configs) = configs.get(&format!("projects/{project}")) else { return false };
        let concerned = configs.iter().filter(|one| one.service == "allServices" || one.service == service);
        // What is exempted for the service or for all is exempted.
        let mut logs = concerned.flat_map(|one| &one.logs).filter(|log| log.kind == kind).peekable();
        logs.peek().is_some()
            && !logs.any(|log| log.exempted.iter().any(|exempted| exempted.eq_ignore_ascii_case(member)))
    }
}

impl Iam {
    /// Whether calls of this kind may have to be written down at all.
    pub fn may_audit(&self, access: Access) -> bool {
        access == Access::AdminWrite || self.index.audited.any.load(Ordering::Acquire)
    }

    /// The entry of the audit log for a call, if the policy of its project wants one.
    pub fn audit_entry(&self, call: &Call<'_>) -> Option<LogEntry> {
        if *call.caller.principal() == Principal::Anonymous {
            return None;
        }
        let resource = &call.asked.first()?.resource;
        let project = self.projects.known(&self.project_of_resource(resource)?)?;
        let service = service_of(call, resource);
        let member = call.caller.principal().member().unwrap_or_default();
        if !self.index.audited.wants(&project.id, service, call.access, &member) {
            return None;
        }
        let log = if call.access == Access::AdminWrite { "activity" } else { "data_access" };
        let payload = prost_types::Any {
            type_url: "type.googleapis.com/google.cloud.audit.AuditLog".into(),
            value: self.payload(call, service, resource, &member).encode_to_vec(),
        };
        Some(LogEntry {
            log_name: format!("projects/{}/logs/cloudaudit.googleapis.com%2F{log}", project.id),
            resource: Some(self.monitored(call, service, resource, &project.id)),
            timestamp: Some(call.caller.request().time.into()),
            severity: severity(call) as i32,
            payload: Some(Payload::ProtoPayload(payload)),
            ..LogEntry::default()
        })
    }

    /// The project of a resource: a service account named without one says it in its address.
    fn project_of_resource(&self, resource: &Resource) -> Option<String> {
        let name = self.canonical(resource.service, &resource.name);
        let (project, _) = in_project(&name)?;
        (!matches!(project, "-" | "_")).then(|| project.to_owned())
    }

    fn payload(&self, call: &Call<'_>, service: &str, resource: &Resource, member: &str) -> AuditLog {
        let request = call.caller.request();
        let info = |asked: &kernel::audit::Asked| AuthorizationInfo {
            resource: asked.resource.name.clone(),
            permission: asked.permission.to_owned(),
            granted: asked.granted,
            resource_attributes: Some(attribute_context::Resource::default()),
            ..AuthorizationInfo::default()
        };
        AuditLog {
            service_name: service.to_owned(),
            method_name: method_name(call.method.name()),
            resource_name: self.shown_name(resource),
            status: Some(call.error.map_or_else(Status::default, |error| Status {
                code: error.code() as i32,
                message: error.message().to_owned(),
                details: Vec::new(),
            })),
            authentication_info: Some(AuthenticationInfo {
                principal_email: call.caller.principal().email().unwrap_or_default().to_owned(),
                principal_subject: member.to_owned(),
                ..AuthenticationInfo::default()
            }),
            authorization_info: call.asked.iter().filter(|_| was_asked(call)).map(info).collect(),
            request_metadata: Some(RequestMetadata {
                caller_ip: request.peer.map_or_else(String::new, |peer| peer.to_string()),
                caller_supplied_user_agent: request.user_agent.to_string(),
                request_attributes: Some(attribute_context::Request {
                    time: Some(request.time.into()),
                    auth: Some(attribute_context::Auth::default()),
                    ..attribute_context::Request::default()
                }),
                destination_attributes: Some(attribute_context::Peer::default()),
                ..RequestMetadata::default()
            }),
            ..AuditLog::default()
        }
    }

    /// A name as the service itself writes it: Secret Manager with the project's number.
    fn shown_name(&self, resource: &Resource) -> String {
        match resource.service {
            "secretmanager.googleapis.com" => self.projects.numbered(&resource.name),
            _ => resource.name.clone(),
        }
    }

    /// The monitored resource of an entry.
    fn monitored(
        &self,
        call: &Call<'_>,
        service: &str,
        resource: &Resource,
        project: &str,
    ) -> MonitoredResource {
        let last = resource.name.rsplit('/').next().unwrap_or_default();
        let (kind, labels): (&str, Vec<(&str, String)>) = match (resource.service, &*resource.name) {
            (SERVICE, name) if name.contains("/serviceAccounts/") => {
                let id = name.split("/serviceAccounts/").nth(1).and_then(|rest| rest.split('/').next());
                let account = self.find_account(id.unwrap_or_default()).unwrap_or_default();
                ("service_account", vec![("email_id", account.email), ("unique_id", account.unique_id)])
            }
            (SERVICE, name) if name.contains("/roles/") => {
                ("iam_role", vec![("role_name", resource.name.clone())])
            }
            (RESOURCE_MANAGER, _) if service == RESOURCE_MANAGER => ("project", Vec::new()),
            ("run.googleapis.com", name) if name.contains("/services/") => {
                let location = name.split('/').nth(3).unwrap_or_default().to_owned();
                let names = [("service_name", last), ("configuration_name", ""), ("revision_name", "")];
                let mut labels: Vec<_> = names.map(|(key, value)| (key, value.to_owned())).into();
                labels.push(("location", location));
                ("cloud_run_revision", labels)
            }
            _ => {
                let method = method_name(call.method.name());
                ("audited_resource", vec![("service", service.to_owned()), ("method", method)])
            }
        };
        let mut labels: BTreeMap<String, String> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        labels.insert("project_id".into(), project.to_owned());
        MonitoredResource { r#type: kind.to_owned(), labels: labels.into_iter().collect() }
    }
}

/// The service that a method belongs to. A mixin belongs to the service whose resource it is about, or, where that is
/// the project itself, to the one that was called.
fn service_of(call: &Call<'_>, resource: &Resource) -> &'static str {
    match call.method.host() {
        host if !services::is_shared(host) => host,
        _ if resource.service != RESOURCE_MANAGER => resource.service,
        _ => services::of_host(&call.caller.request().host)
            .map_or(RESOURCE_MANAGER, |(service, _)| service.name),
    }
}

/// Whether a call got as far as being asked for its permissions: not where its API is disabled.
fn was_asked(call: &Call<'_>) -> bool {
    let is_disabled = |detail: &Detail| matches!(detail, Detail::Info { reason: "SERVICE_DISABLED", .. });
    !call.error.is_some_and(|error| error.details().iter().any(is_disabled))
}

fn severity(call: &Call<'_>) -> LogSeverity {
    match (call.error, call.access) {
        (Some(_), _) => LogSeverity::Error,
        (None, Access::AdminWrite) => LogSeverity::Notice,
        (None, _) => LogSeverity::Info,
    }
}

/// A method's name as its service's audit log has it. IAM leaves its service's name out, Resource Manager all but the
/// method's own; what has no proto is named by its resources, as in `storage.objects.insert`.
fn method_name(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    if let Some(rest) = name.strip_prefix("google.discovery.") {
        let mut parts = rest.split('.');
        let (product, resources) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
        return match (product, last) {
            ("cloudresourcemanager", method) => method.to_owned(),
            ("run", method) => format!("google.cloud.run.v1.Services.{method}"),
            (product, method) => format!("{product}.{}.{}", lower_first(resources), lower_first(method)),
        };
    }
    if name.starts_with("google.cloud.resourcemanager.") && last.ends_with("IamPolicy") {
        return last.to_owned();
    }
    name.replace("google.iam.admin.v1.IAM.", "google.iam.admin.v1.")
        .replace("google.iam.credentials.v1.IAMCredentials.", "")
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::AuditLogRecord;

    #[test]
    fn policies_say_what_is_written() {
        let audited = Audited::default();
        let log = |kind: LogType, exempted: &[&str]| AuditLogRecord {
            kind: kind as i32,
            exempted: exempted.iter().map(|member| (*member).into()).collect(),
        };
        let config = |service: &str, logs| AuditRecord { service: service.into(), logs };
        let wants = |service, access, member| audited.wants("p", service, access, member);
        assert!(wants("a", Access::AdminWrite, "user:x") && !wants("a", Access::DataRead, "user:x"));
        audited.put(
            "projects/p",
            &[
                config("allServices", vec![log(LogType::DataRead, &["user:bot@x.com"])]),
                config("a", vec![log(LogType::DataRead, &[]), log(LogType::AdminRead, &["user:ada@x.com"])]),
            ],
        );
        assert!(audited.any.load(Ordering::Relaxed));
        assert!(
            wants("a", Access::DataRead, "user:ada@x.com") && wants("b", Access::DataRead, "user:ada@x.com")
        );
        assert!(
            !wants("a", Access::DataRead, "user:Bot@x.com")
                && !wants("b", Access::AdminRead, "user:eve@x.com")
        );
        assert!(
            !wants("a", Access::AdminRead, "user:ada@x.com")
                && wants("a", Access::AdminRead, "user:eve@x.com")
        );
        audited.put("projects/p", &[]);
        assert!(!audited.any.load(Ordering::Relaxed));
    }

    #[test]
    fn methods_have_the_names_that_googles_logs_have() {
        for (name, shown) in [
            (
                "google.cloud.secretmanager.v1.SecretManagerService.AddSecretVersion",
                "google.cloud.secretmanager.v1.SecretManagerService.AddSecretVersion",
            ),
            ("google.iam.admin.v1.IAM.CreateServiceAccount", "google.iam.admin.v1.CreateServiceAccount"),
            ("google.discovery.cloudresourcemanager.v1.Projects.SetIamPolicy", "SetIamPolicy"),
            ("google.discovery.storage.v1.Objects.Insert", "storage.objects.insert"),
            ("google.iam.credentials.v1.IAMCredentials.GenerateAccessToken", "GenerateAccessToken"),
        ] {
            assert_eq!(method_name(name), shown);
        }
    }
}
