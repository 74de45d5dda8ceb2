use apis::google::{
    cloud::{audit::AuditLog, secretmanager::v1::secret_manager_service},
    iam::v1::{AuditConfig, AuditLogConfig, Policy, SetIamPolicyRequest, audit_log_config::LogType},
    logging::v2::{LogEntry, log_entry::Payload},
};
use kernel::{
    Caller, Error, Principal,
    audit::{Access, Asked, Call},
    ports::Policies,
};
use prost::Message;

use crate::support::*;

fn payload(entry: &LogEntry) -> AuditLog {
    match &entry.payload {
        Some(Payload::ProtoPayload(any)) => AuditLog::decode(&*any.value).unwrap(),
        other => panic!("no proto payload: {other:?}"),
    }
}

fn entry(world: &World, caller: &Caller, access: Access, error: Option<&Error>) -> Option<LogEntry> {
    let asked =
        [Asked { permission: "secretmanager.versions.access", resource: secret(), granted: error.is_none() }];
    let method = secret_manager_service::ACCESS_SECRET_VERSION.id();
    world.iam.audit_entry(&Call { method, access, caller, asked: &asked, error })
}

#[tokio::test]
async fn admin_writes_are_written_and_data_access_where_it_is_switched_on() {
    let world = World::new().await;
    let ada = world.caller(user("ada@example.com"));
    let written = entry(&world, &ada, Access::AdminWrite, None).unwrap();
    assert_eq!(written.log_name, "projects/demo-project/logs/cloudaudit.googleapis.com%2Factivity");
    let said = payload(&written);
    assert_eq!(said.service_name, "secretmanager.googleapis.com");
    assert_eq!(said.method_name, "google.cloud.secretmanager.v1.SecretManagerService.AccessSecretVersion");
    assert_eq!(said.resource_name, format!("projects/{NUMBER}/secrets/s"));
    assert_eq!(said.authentication_info.unwrap().principal_email, "ada@example.com");
    assert!(said.authorization_info[0].granted);

    assert!(!world.iam.may_audit(Access::DataRead) && entry(&world, &ada, Access::DataRead, None).is_none());
    let config = AuditConfig {
        service: "secretmanager.googleapis.com".into(),
        audit_log_configs: vec![AuditLogConfig {
            log_type: LogType::DataRead as i32,
            exempted_members: vec!["user:bob@example.com".into()],
        }],
    };
    let request = SetIamPolicyRequest {
        policy: Some(Policy { audit_configs: vec![config.clone()], ..Policy::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["audit_configs".into()] }),
        ..Default::default()
    };
    let policy = world.iam.set(&project(), request).await.unwrap();
    assert_eq!((policy.audit_configs, policy.bindings.len()), (vec![config], 1), "the owner stays");
    assert!(world.iam.may_audit(Access::DataRead));
    let refusal = Error::denied("no");
    let refused = entry(&world, &ada, Access::DataRead, Some(&refusal)).unwrap();
    assert!(refused.log_name.ends_with("%2Fdata_access"));
    let said = payload(&refused);
    assert_eq!((said.status.unwrap().code, said.authorization_info[0].granted), (7, false));
    assert!(
        entry(&world, &world.caller(user("Bob@example.com")), Access::DataRead, None).is_none(),
        "exempted"
    );
    assert!(entry(&world, &ada, Access::DataWrite, None).is_none(), "not switched on");
    assert!(entry(&world, &world.caller(Principal::Anonymous), Access::AdminWrite, None).is_none());
}

#[tokio::test]
async fn a_mixin_belongs_to_the_service_whose_resource_it_is_about() {
    let world = World::new().await;
    let told = |host: &str, resource: kernel::Resource, error: Option<&Error>| {
        let request = kernel::call::RequestInfo { host: host.into(), ..request() };
        let caller = Caller::new(user("ada@example.com"), request, world.iam.clone());
        let asked = [Asked { permission: "run.operations.delete", resource, granted: true }];
        let method = apis::google::longrunning::operations::DELETE_OPERATION.id();
        let call = Call { method, access: Access::AdminWrite, caller: &caller, asked: &asked, error };
        payload(&world.iam.audit_entry(&call).unwrap())
    };
    let operation =
        || kernel::Resource::new("run.googleapis.com", "projects/demo-project/locations/l/operations/o");
    assert_eq!(told("localhost", operation(), None).service_name, "run.googleapis.com");
    assert_eq!(told("us-central1-run.googleapis.com", project(), None).service_name, "run.googleapis.com");
    assert_eq!(told("127.0.0.1", project(), None).service_name, "cloudresourcemanager.googleapis.com");

    let of = kernel::ports::Project { id: "demo-project".into(), number: NUMBER };
    let disabled = kernel::service_disabled("run.googleapis.com", &of);
    let said = told("run.googleapis.com", operation(), Some(&disabled));
    assert!(said.authorization_info.is_empty(), "nothing was asked, so nothing was granted");
    assert_eq!(said.status.unwrap().code, 7);
}
