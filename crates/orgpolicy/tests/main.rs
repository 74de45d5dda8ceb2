//! Organization policies as their callers meet them: every test drives the methods with encoded messages, over a real
//! store in a directory of its own.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use apis::{
    Rpc,
    google::{
        cloud::orgpolicy::v2::{
            self, org_policy as rpc,
            policy_spec::{PolicyRule, policy_rule},
        },
        discovery::cloudresourcemanager::v1::{self, projects as old},
    },
};
use kernel::{
    BoxFuture, Caller, Code, Error, Method, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    names::ORGANIZATION,
    ports::{Authority, Constraints, Project, Projects},
    store::{Embedded, Store},
};
use orgpolicy::OrgPolicies;
use prost::Message;
use tempfile::TempDir;

const KEYS: &str = "iam.disableServiceAccountKeyCreation";
const INGRESS: &str = "run.allowedIngress";

/// One project, `my-project`, in `folders/5`, in the organization.
struct OneProject;

impl Projects for OneProject {
    fn resolve<'a>(&'a self, id_or_number: &'a str) -> BoxFuture<'a, Result<Project>> {
        Box::pin(async { self.known(id_or_number).ok_or_else(|| Error::denied("no such project")) })
    }

    fn known(&self, id_or_number: &str) -> Option<Project> {
        ["my-project", "12"].contains(&id_or_number).then(|| Project { id: "my-project".into(), number: 12 })
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }

    fn parent(&self, container: &str) -> Option<Arc<str>> {
        match container {
            "projects/my-project" => Some("folders/5".into()),
            "folders/5" => Some(ORGANIZATION.into()),
            _ => None,
        }
    }
}

struct Anybody;

impl Authority for Anybody {
    fn allows(&self, _: &Principal, _: &str, _: &Resource, _: &RequestInfo) -> bool {
        true
    }
}

struct World {
    _dir: TempDir,
    policies: Arc<OrgPolicies>,
    methods: Vec<Method>,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&dir.path().join("store")).unwrap());
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
        let policies = OrgPolicies::open(store, clock, Arc::new(OneProject)).await.unwrap();
        let methods = orgpolicy::methods(policies.clone());
        World { _dir: dir, policies, methods }
    }

    async fn call<Q: Message, S: Message + Default>(&self, rpc: Rpc<Q, S>, request: Q) -> Result<S> {
        let info = RequestInfo {
            time: SystemTime::UNIX_EPOCH,
            peer: None,
            host: "orgpolicy.googleapis.com".into(),
            user_agent: "test".into(),
        };
        let caller = Caller::new(Principal::User("ada@example.com".into()), info, Arc::new(Anybody));
        let method = self.methods.iter().find(|method| method.id == rpc.id()).expect("a served method");
        let answer = (method.handler)(caller, request.encode_to_vec().into()).await?;
        Ok(S::decode(&answer[..]).unwrap())
    }

    async fn create(&self, parent: &str, constraint: &str, spec: v2::PolicySpec) -> Result<v2::Policy> {
        let policy = v2::Policy {
            name: format!("{parent}/policies/{constraint}"),
            spec: Some(spec),
            ..v2::Policy::default()
        };
        self.call(rpc::CREATE_POLICY, v2::CreatePolicyRequest { parent: parent.into(), policy: Some(policy) })
            .await
    }

    async fn update(&self, policy: v2::Policy, paths: &[&str]) -> Result<v2::Policy> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        self.call(rpc::UPDATE_POLICY, v2::UpdatePolicyRequest { policy: Some(policy), update_mask }).await
    }

    async fn get(&self, name: &str) -> Result<v2::Policy> {
        self.call(rpc::GET_POLICY, v2::GetPolicyRequest { name: name.into() }).await
    }

    async fn effective(&self, name: &str) -> v2::PolicySpec {
        let request = v2::GetEffectivePolicyRequest { name: name.into() };
        self.call(rpc::GET_EFFECTIVE_POLICY, request).await.unwrap().spec.unwrap()
    }
}

fn one(kind: policy_rule::Kind) -> v2::PolicySpec {
    let rule = PolicyRule { kind: Some(kind), ..PolicyRule::default() };
    v2::PolicySpec { rules: vec![rule], ..v2::PolicySpec::default() }
}

fn enforce(enforced: bool) -> v2::PolicySpec {
    one(policy_rule::Kind::Enforce(enforced))
}

fn allow(values: &[&str]) -> v2::PolicySpec {
    let allowed_values = values.iter().map(|value| (*value).to_owned()).collect();
    one(policy_rule::Kind::Values(policy_rule::StringValues { allowed_values, denied_values: Vec::new() }))
}

fn resource() -> Resource {
    Resource::new("iam.googleapis.com", "projects/my-project/serviceAccounts/a")
}

#[tokio::test]
async fn a_policy_is_created_read_changed_and_deleted() {
    let world = World::new().await;
    let name = format!("projects/my-project/policies/{KEYS}");
    let missing = world.get(&name).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "Requested entity was not found."));
    let made = world.create("projects/my-project", KEYS, enforce(true)).await.unwrap();
    assert_eq!(
        made.name,
        format!("projects/12/policies/{KEYS}"),
        "names are shown with the project's number"
    );
    assert_eq!(
        world.create("projects/12", KEYS, enforce(true)).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    assert_eq!(world.get(&name).await.unwrap(), made);
    assert!(world.policies.enforces(KEYS, &resource()));

    let stale = v2::Policy { etag: "BwAAAAAAAAA=".into(), ..made.clone() };
    assert_eq!(world.update(stale, &["policy.spec"]).await.unwrap_err().code(), Code::Aborted);
    let changed = v2::Policy { spec: Some(enforce(false)), ..made.clone() };
    let changed = world.update(changed, &["policy.spec"]).await.unwrap();
    assert_ne!(changed.etag, made.etag);
    assert!(!world.policies.enforces(KEYS, &resource()));
    assert_eq!(world.update(changed, &["name"]).await.unwrap_err().code(), Code::InvalidArgument);

    let list = v2::ListPoliciesRequest { parent: "projects/my-project".into(), ..Default::default() };
    assert_eq!(world.call(rpc::LIST_POLICIES, list.clone()).await.unwrap().policies.len(), 1);
    let delete = v2::DeletePolicyRequest { name: name.clone(), etag: String::new() };
    world.call(rpc::DELETE_POLICY, delete.clone()).await.unwrap();
    assert_eq!(world.call(rpc::DELETE_POLICY, delete).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.call(rpc::LIST_POLICIES, list).await.unwrap().policies.len(), 0);
}

#[tokio::test]
async fn what_is_set_above_holds_below() {
    let world = World::new().await;
    world.create(ORGANIZATION, INGRESS, allow(&["internal"])).await.unwrap();
    assert!(!world.policies.allows(INGRESS, &resource(), &["all"]));
    let inherit = v2::PolicySpec { inherit_from_parent: true, ..allow(&["is:all"]) };
    world.create("folders/5", INGRESS, inherit).await.unwrap();
    assert!(world.policies.allows(INGRESS, &resource(), &["all"]));
    assert!(world.policies.allows(INGRESS, &resource(), &["internal"]));
    let effective = world.effective(&format!("projects/12/policies/{INGRESS}")).await;
    assert_eq!(effective, allow(&["all", "internal"]));
    let reset = v2::PolicySpec { reset: true, ..v2::PolicySpec::default() };
    world.create("projects/12", INGRESS, reset).await.unwrap();
    let effective = world.effective(&format!("projects/12/policies/{INGRESS}")).await;
    assert_eq!(effective, one(policy_rule::Kind::AllowAll(true)));
    let effective = world.effective(&format!("{ORGANIZATION}/policies/{KEYS}")).await;
    assert_eq!(effective, enforce(false), "nobody said anything");
}

/// Nothing asks these yet: they are kept, inherited and told, so that what sets them works.
#[tokio::test]
async fn constraints_on_storage_are_kept_for_whoever_asks() {
    let world = World::new().await;
    let bucket = Resource::new("storage.googleapis.com", "projects/my-project/buckets/b");
    for constraint in ["storage.publicAccessPrevention", "storage.uniformBucketLevelAccess"] {
        assert!(!world.policies.enforces(constraint, &bucket), "{constraint}");
        world.create(ORGANIZATION, constraint, enforce(true)).await.unwrap();
        assert!(world.policies.enforces(constraint, &bucket), "{constraint}");
        world.create("projects/12", constraint, enforce(false)).await.unwrap();
        assert!(!world.policies.enforces(constraint, &bucket), "{constraint}");
        let listed = world.create("folders/5", constraint, allow(&["x"])).await.unwrap_err();
        assert_eq!(listed.code(), Code::InvalidArgument, "{constraint} is on or off");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let world = World::new().await;
    for (constraint, spec, code) in [
        (INGRESS, enforce(true), Code::InvalidArgument),
        (INGRESS, allow(&["everything"]), Code::InvalidArgument),
        (KEYS, allow(&["x"]), Code::InvalidArgument),
        (KEYS, v2::PolicySpec::default(), Code::InvalidArgument),
        ("compute.skipDefaultNetworkCreation", enforce(true), Code::NotFound),
    ] {
        assert_eq!(
            world.create("projects/12", constraint, spec).await.unwrap_err().code(),
            code,
            "{constraint}"
        );
    }
    let mut tagged = enforce(true);
    tagged.rules[0].condition = Some(apis::google::r#type::Expr::default());
    assert_eq!(world.create("projects/12", KEYS, tagged).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(
        world.create("organizations/1", KEYS, enforce(true)).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(world.get("things/1/policies/x").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_tried_out_is_told_and_not_enforced() {
    let world = World::new().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    world.policies.report_by(move |tried| {
        note.lock().unwrap().push((tried.constraint.to_owned(), tried.resource.name.clone()));
    });
    let policy = v2::Policy {
        name: format!("{ORGANIZATION}/policies/{KEYS}"),
        dry_run_spec: Some(enforce(true)),
        ..v2::Policy::default()
    };
    let request = v2::CreatePolicyRequest { parent: ORGANIZATION.into(), policy: Some(policy) };
    let made = world.call(rpc::CREATE_POLICY, request).await.unwrap();
    assert!(made.spec.is_none() && made.dry_run_spec.is_some());
    assert!(!world.policies.enforces(KEYS, &resource()));
    assert_eq!(*told.lock().unwrap(), [(format!("constraints/{KEYS}"), resource().name)]);
    world.update(v2::Policy { spec: Some(enforce(true)), ..made }, &["*"]).await.unwrap();
    assert!(world.policies.enforces(KEYS, &resource()));
    assert_eq!(told.lock().unwrap().len(), 1, "what is refused need not be told");
}

#[tokio::test]
async fn the_old_version_has_the_same_policies() {
    let world = World::new().await;
    let named = |name: &str| Some(format!("constraints/{name}"));
    let get = |name: &str| v1::ProjectsGetOrgPolicyRequest {
        resource: "projects/my-project".into(),
        body: Some(v1::GetOrgPolicyRequest { constraint: named(name) }),
    };
    let unset = world.call(old::GET_ORG_POLICY, get(INGRESS)).await.unwrap();
    assert!(unset.list_policy.is_none() && unset.etag.is_some());
    let list = v1::ListPolicy { allowed_values: vec!["internal".into()], ..Default::default() };
    let set = |policy: v1::OrgPolicy| v1::ProjectsSetOrgPolicyRequest {
        resource: "projects/my-project".into(),
        body: Some(v1::SetOrgPolicyRequest { policy: Some(policy) }),
    };
    let policy = v1::OrgPolicy { list_policy: Some(list), ..unset.clone() };
    let made = world.call(old::SET_ORG_POLICY, set(policy.clone())).await.unwrap();
    assert_eq!(world.call(old::SET_ORG_POLICY, set(policy)).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(world.call(old::GET_ORG_POLICY, get(INGRESS)).await.unwrap(), made);
    assert!(!world.policies.allows(INGRESS, &resource(), &["all"]));
    let shown = world.get(&format!("projects/12/policies/{INGRESS}")).await.unwrap();
    assert_eq!(shown.spec.unwrap().rules, allow(&["internal"]).rules);
    let clear = v1::ProjectsClearOrgPolicyRequest {
        resource: "projects/my-project".into(),
        body: Some(v1::ClearOrgPolicyRequest { constraint: named(INGRESS), etag: None }),
    };
    world.call(old::CLEAR_ORG_POLICY, clear.clone()).await.unwrap();
    world.call(old::CLEAR_ORG_POLICY, clear).await.unwrap();
    let boolean = v1::OrgPolicy {
        constraint: named(KEYS),
        boolean_policy: Some(v1::BooleanPolicy { enforced: Some(true) }),
        ..Default::default()
    };
    world.call(old::SET_ORG_POLICY, set(boolean)).await.unwrap();
    assert!(world.policies.enforces(KEYS, &resource()));
}
