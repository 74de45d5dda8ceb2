use ::iam::Role;
use apis::google::iam::admin::v1::{self as admin, iam::*};
use apis::google::iam::v1::{Binding, Policy, SetIamPolicyRequest};
use apis::google::r#type::Expr;
use base64::{Engine, engine::general_purpose::STANDARD};
use kernel::{Code, Principal, Resource, Result, ports::Policies};
use proptest::prelude::*;

use crate::support::*;

const APP: &str = "my-app-sa@demo-project.iam.gserviceaccount.com";

pub(crate) fn binding(role: &str, members: &[&str]) -> Binding {
    Binding {
        role: role.into(),
        members: members.iter().map(|member| (*member).into()).collect(),
        condition: None,
    }
}

pub(crate) async fn set(world: &World, resource: &Resource, bindings: Vec<Binding>) -> Result<Policy> {
    let policy = Policy { version: 1, bindings, ..Policy::default() };
    replace(world, resource, policy).await
}

pub(crate) async fn replace(world: &World, resource: &Resource, policy: Policy) -> Result<Policy> {
    let request = SetIamPolicyRequest { policy: Some(policy), ..Default::default() };
    world.iam.set(resource, request).await
}

#[tokio::test]
async fn the_owner_owns_a_project_until_its_policy_says_otherwise() {
    let world = World::new().await;
    let owner = world.iam.owner().principal();
    assert!(world.allows(&owner, "secretmanager.versions.access", &secret()));
    assert!(world.allows(
        &owner,
        "resourcemanager.projects.create",
        &Resource::new("cloudresourcemanager.googleapis.com", "")
    ));
    assert!(
        !world.allows(&owner, "iam.serviceAccounts.getAccessToken", &project()),
        "nor do owners on Google"
    );
    assert!(!world.allows(&owner, "secretmanager.secrets.get", &Resource::project("no-such-project")));
    assert!(!world.allows(&user("eve@example.com"), "secretmanager.secrets.get", &secret()));
    let default = format!("projects/-/serviceAccounts/{NUMBER}-compute@developer.gserviceaccount.com");
    assert!(world.allows(&owner, "iam.serviceAccounts.actAs", &Resource::new("iam.googleapis.com", default)));

    let policy = world.iam.get(&project(), 3).unwrap();
    assert_eq!(policy.bindings, [binding("roles/owner", &["user:ada@haar.localhost"])]);
    replace(
        &world,
        &project(),
        Policy { bindings: vec![binding("roles/viewer", &["user:bob@example.com"])], ..policy },
    )
    .await
    .unwrap();
    assert!(!world.allows(&owner, "secretmanager.versions.access", &secret()));
}

#[tokio::test]
async fn a_grant_reaches_what_lies_below_and_not_beside() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let app = machine(APP);
    let member = format!("serviceAccount:{APP}");
    set(&world, &secret(), vec![binding("roles/secretmanager.secretAccessor", &[&member])]).await.unwrap();
    let version = Resource::new("secretmanager.googleapis.com", "projects/demo-project/secrets/s/versions/1");
    let sibling = Resource::new("secretmanager.googleapis.com", "projects/demo-project/secrets/t/versions/1");
    assert!(world.allows(&app, "secretmanager.versions.access", &version));
    assert!(!world.allows(&app, "secretmanager.versions.access", &sibling));
    assert!(!world.allows(&app, "secretmanager.versions.add", &version));

    set(&world, &project(), vec![binding("roles/secretmanager.admin", &[&member])]).await.unwrap();
    assert!(world.allows(&app, "secretmanager.versions.add", &sibling));
}

#[tokio::test]
async fn each_kind_of_member_is_who_it_says() {
    let world = World::new().await;
    let pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p";
    let cases = [
        ("allUsers", Principal::Anonymous, true),
        ("allAuthenticatedUsers", Principal::Anonymous, false),
        ("allAuthenticatedUsers", user("eve@example.com"), true),
        ("user:Bob@Example.com", user("bob@example.COM"), true),
        ("user:bob@example.com", machine("bob@example.com"), false),
        ("domain:example.com", user("eve@example.com"), true),
        ("domain:example.com", user("eve@sub.example.com"), false),
        (
            "serviceAccount:svc@elsewhere.iam.gserviceaccount.com",
            machine("svc@elsewhere.iam.gserviceaccount.com"),
            true,
        ),
        ("group:team@example.com", user("team@example.com"), false),
        (
            &format!("principal:{pool}/subject/s"),
            Principal::Federated(format!("principal:{pool}/subject/s").into()),
            true,
        ),
        (
            &format!("principalSet:{pool}/*"),
            Principal::Federated(format!("principal:{pool}/subject/s").into()),
            true,
        ),
    ];
    for (member, principal, expected) in cases {
        set(&world, &secret(), vec![binding("roles/secretmanager.viewer", &[member])]).await.unwrap();
        assert_eq!(
            world.allows(&principal, "secretmanager.secrets.get", &secret()),
            expected,
            "{member} {principal:?}"
        );
    }
}

#[tokio::test]
async fn two_writers_do_not_overwrite_each_other() {
    let world = World::new().await;
    let first = world.iam.get(&secret(), 1).unwrap();
    assert_eq!(STANDARD.encode(&first.etag), "ACAB");
    let bindings = vec![binding("roles/secretmanager.viewer", &["user:bob@example.com"])];
    let written =
        replace(&world, &secret(), Policy { bindings: bindings.clone(), ..first.clone() }).await.unwrap();
    assert!(STANDARD.encode(&written.etag).starts_with("Bw"));

    let stale = replace(&world, &secret(), Policy { bindings: bindings.clone(), ..first }).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    assert!(stale.message().starts_with(
        "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff. \
         The request's ETag '\\000 \\001' did not match the current policy's ETag '\\007"
    ));

    let etag = STANDARD.decode(STANDARD.encode(&written.etag)).unwrap().into();
    replace(&world, &secret(), Policy { bindings: bindings.clone(), etag, ..written }).await.unwrap();
    set(&world, &secret(), bindings).await.expect("without an etag it is overwritten");
}

#[tokio::test]
async fn what_google_would_refuse_is_refused() {
    let world = World::new().await;
    let refused = async |resource: Resource, role: &str, member: &str| {
        set(&world, &resource, vec![binding(role, &[member])]).await.unwrap_err().message().to_owned()
    };
    let viewer = "roles/secretmanager.viewer";
    assert_eq!(
        refused(secret(), "roles/foo", "user:a@b.c").await,
        "Role roles/foo is not supported for this resource."
    );
    assert_eq!(
        refused(secret(), "roles/run.admin", "user:a@b.c").await,
        "Role roles/run.admin is not supported for this resource."
    );
    assert_eq!(
        refused(project(), viewer, "serviceAccount:nobody@demo-project.iam.gserviceaccount.com").await,
        "Service account nobody@demo-project.iam.gserviceaccount.com does not exist."
    );
    for anybody in ["allUsers", "allAuthenticatedUsers"] {
        assert_eq!(
            refused(project(), viewer, anybody).await,
            format!("Member {anybody} is invalid due to membership type restrictions on the resource.")
        );
    }
    for malformed in
        ["deleted:x?uid=1", "deleted:user:a@b.c?uid=x", "projectOwner:demo-project", "group:x", "domain:x"]
    {
        assert!(set(&world, &secret(), vec![binding(viewer, &[malformed])]).await.is_err(), "{malformed}");
    }
    assert_eq!(
        refused(project(), viewer, "bob@example.com").await,
        "The member bob@example.com is of an unknown type. Please set a valid type prefix for the member."
    );
    let many = (0..1501).map(|n| format!("user:u{n}@example.com")).collect();
    let many = Binding { role: viewer.into(), members: many, condition: None };
    let error = set(&world, &secret(), vec![many]).await.unwrap_err();
    assert_eq!(
        error.message(),
        "The number of members in the policy (1501) is larger than the maximum allowed size 1500."
    );
    let policy = Policy { version: 2, ..Policy::default() };
    assert_eq!(replace(&world, &secret(), policy).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(world.iam.get(&secret(), 1).unwrap().bindings.is_empty(), "and nothing was written");
}

#[tokio::test]
async fn bindings_are_merged_and_members_stand_once() {
    let world = World::new().await;
    let viewer = "roles/secretmanager.viewer";
    let given = vec![
        binding(viewer, &["user:b@example.com", "user:a@example.com"]),
        binding("roles/secretmanager.admin", &[]),
        binding(viewer, &["user:b@example.com", "user:c@example.com"]),
    ];
    let policy = set(&world, &secret(), given).await.unwrap();
    let merged = binding(viewer, &["user:a@example.com", "user:b@example.com", "user:c@example.com"]);
    assert_eq!(policy.bindings, [merged]);
}

#[tokio::test]
async fn a_new_account_under_an_old_address_has_nothing() {
    let world = World::new().await;
    let first = world.account("my-app-sa").await;
    let member = format!("serviceAccount:{APP}");
    set(&world, &project(), vec![binding("roles/secretmanager.admin", &[&member])]).await.unwrap();
    let itself = Resource::new("iam.googleapis.com", first.name.as_str());
    set(&world, &itself, vec![binding("roles/iam.serviceAccountUser", &["user:bob@example.com"])])
        .await
        .unwrap();
    let delete = admin::DeleteServiceAccountRequest { name: first.name.clone() };
    world.call(world.owner(), DELETE_SERVICE_ACCOUNT, delete.clone()).await.unwrap();
    let gone = format!("deleted:{member}?uid={}", first.unique_id);
    assert_eq!(world.iam.get(&project(), 1).unwrap().bindings[0].members, std::slice::from_ref(&gone));

    world.account("my-app-sa").await;
    assert!(!world.allows(&machine(APP), "secretmanager.secrets.get", &secret()));
    assert!(!world.allows(&user("bob@example.com"), "iam.serviceAccounts.actAs", &itself));
    world.call(world.owner(), DELETE_SERVICE_ACCOUNT, delete).await.unwrap();

    set(&world, &project(), vec![binding("roles/secretmanager.admin", &[&gone])]).await.unwrap();
    let name = format!("projects/-/serviceAccounts/{}", first.unique_id);
    let undelete = admin::UndeleteServiceAccountRequest { name };
    world.call(world.owner(), UNDELETE_SERVICE_ACCOUNT, undelete).await.unwrap();
    assert!(world.allows(&machine(APP), "secretmanager.secrets.get", &secret()));
    assert!(world.allows(&user("bob@example.com"), "iam.serviceAccounts.actAs", &itself));
    assert_eq!(world.iam.get(&project(), 1).unwrap().bindings[0].members, [member]);
}

#[tokio::test]
async fn an_accounts_policy_is_found_under_each_of_its_names() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    let bob = user("bob@example.com");
    let named = |name: String| Resource::new("iam.googleapis.com", name);
    set(
        &world,
        &named(account.name.clone()),
        vec![binding("roles/iam.serviceAccountUser", &["user:bob@example.com"])],
    )
    .await
    .unwrap();
    for name in [
        account.name,
        format!("projects/-/serviceAccounts/{APP}"),
        format!("projects/-/serviceAccounts/{}", account.unique_id),
    ] {
        assert!(world.allows(&bob, "iam.serviceAccounts.actAs", &named(name.clone())), "{name}");
        assert!(!world.iam.get(&named(name.clone()), 1).unwrap().bindings.is_empty(), "{name}");
    }
    assert!(!world.allows(
        &bob,
        "iam.serviceAccounts.actAs",
        &named(format!("projects/other-project/serviceAccounts/{APP}"))
    ));
}

#[tokio::test]
async fn rights_in_one_project_open_no_account_of_another() {
    let world = World::new().await;
    set(&world, &project(), vec![binding("roles/iam.serviceAccountUser", &["user:bob@example.com"])])
        .await
        .unwrap();
    let mine = project().name;
    let may = |permission: &str, account: &str| {
        let name = format!("{mine}/serviceAccounts/{account}");
        world.allows(&user("bob@example.com"), permission, &Resource::new("iam.googleapis.com", name))
    };
    world.account("my-app-sa").await;
    assert!(may("iam.serviceAccounts.actAs", APP));
    assert!(may("iam.serviceaccounts.actAs", APP), "as Cloud Run spells it");
    let default = "210987654321-compute@developer.gserviceaccount.com";
    for foreign in [default, "it@other-project.iam.gserviceaccount.com"] {
        assert!(!may("iam.serviceAccounts.actAs", foreign), "{foreign}");
    }
}

#[tokio::test]
async fn permissions_can_be_asked_about() {
    let world = World::new().await;
    let asked = vec!["secretmanager.secrets.get".to_owned(), "secretmanager.secrets.delete".to_owned()];
    set(&world, &secret(), vec![binding("roles/secretmanager.viewer", &["user:bob@example.com"])])
        .await
        .unwrap();
    let bob = world.caller(user("bob@example.com"));
    assert_eq!(world.iam.test(&bob, &secret(), asked).unwrap(), ["secretmanager.secrets.get"]);
    let wild = world.iam.test(&bob, &secret(), vec!["secretmanager.*".into()]).unwrap_err();
    assert_eq!(wild.message(), "Permission secretmanager.* is not valid for this resource.");
}

pub(crate) const ROLES: [&str; 5] = [
    "roles/viewer",
    "roles/secretmanager.viewer",
    "roles/secretmanager.secretAccessor",
    "roles/secretmanager.admin",
    "roles/owner",
];
pub(crate) const MEMBERS: [&str; 6] = [
    "allUsers",
    "allAuthenticatedUsers",
    "user:a@x.com",
    "user:B@x.com",
    "domain:x.com",
    "serviceAccount:s@far.iam.gserviceaccount.com",
];
pub(crate) const ASKED: [&str; 4] = [
    "secretmanager.secrets.get",
    "secretmanager.versions.access",
    "secretmanager.secrets.delete",
    "product.things.unknown",
];

/// What Google's documentation says, binding by binding.
fn naive(policies: &[&Vec<(usize, Vec<usize>)>], principal: &Principal, permission: &str) -> bool {
    let is = |member: &str| match (member, principal) {
        ("allUsers", _) => true,
        ("allAuthenticatedUsers", principal) => *principal != Principal::Anonymous,
        (member, Principal::User(email)) => {
            member.eq_ignore_ascii_case(&format!("user:{email}"))
                || (member == "domain:x.com" && email.ends_with("@x.com"))
        }
        (member, Principal::ServiceAccount(email)) => member == format!("serviceAccount:{email}"),
        _ => false,
    };
    let holds = |role: &str| {
        let known = ::iam::Permission::named(permission);
        known.map_or(role == "roles/owner", |known| Role::named(role).unwrap().permissions().contains(known))
    };
    policies.iter().any(|policy| {
        policy
            .iter()
            .any(|(role, members)| holds(ROLES[*role]) && members.iter().any(|member| is(MEMBERS[*member])))
    })
}

/// Members from the first one on: projects do not take the first two.
pub(crate) fn any_policy(first: usize) -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
    proptest::collection::vec((0..ROLES.len(), proptest::collection::vec(first..MEMBERS.len(), 0..3)), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn decisions_agree_with_the_naive_reading(on_secret in any_policy(0), on_project in any_policy(2)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let given = |policy: &Vec<(usize, Vec<usize>)>| {
                policy.iter().map(|(role, members)| {
                    binding(ROLES[*role], &members.iter().map(|member| MEMBERS[*member]).collect::<Vec<_>>())
                }).collect()
            };
            set(&world, &secret(), given(&on_secret)).await.unwrap();
            set(&world, &project(), given(&on_project)).await.unwrap();
            for principal in [Principal::Anonymous, user("a@x.com"), user("b@x.com"), user("a@y.com"), machine("s@far.iam.gserviceaccount.com")] {
                for permission in ASKED {
                    let expected = naive(&[&on_secret, &on_project], &principal, permission);
                    assert_eq!(world.allows(&principal, permission, &secret()), expected, "{principal:?} {permission}");
                }
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_set_is_what_is_got(given in any_policy(0), conditions in proptest::collection::vec(0..3usize, 4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let is_public = |members: &[usize]| members.iter().any(|member| *member < 2);
            let bindings: Vec<Binding> = given.iter().zip(&conditions).map(|((role, members), condition)| Binding {
                condition: (*condition > 0 && !ROLES[*role].ends_with("er") && !is_public(members)).then(|| Expr {
                    title: format!("t{condition}"),
                    expression: format!("request.time.getHours() < {condition}"),
                    ..Expr::default()
                }),
                ..binding(ROLES[*role], &members.iter().map(|member| MEMBERS[*member]).collect::<Vec<_>>())
            }).collect();
            let policy = Policy { version: 3, bindings: bindings.clone(), ..Policy::default() };
            let written = replace(&world, &secret(), policy).await.unwrap();
            let flat = |bindings: &[Binding]| {
                let one = |binding: &Binding| {
                    let condition = binding.condition.as_ref().map(|condition| condition.title.clone());
                    let role = binding.role.clone();
                    binding.members.iter().map(move |member| (role.clone(), member.clone(), condition.clone())).collect::<Vec<_>>()
                };
                bindings.iter().flat_map(one).collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(flat(&written.bindings), flat(&bindings));
            let read = world.iam.get(&secret(), 3).unwrap();
            assert_eq!(read, written);
            let has_conditions = flat(&bindings).iter().any(|(_, _, condition)| condition.is_some());
            assert_eq!(read.version, if has_conditions { 3 } else { 1 });
            // A client that knows no conditions changes nothing by sending back what it read.
            let old = world.iam.get(&secret(), 1).unwrap();
            assert!(old.bindings.iter().all(|binding| binding.condition.is_none()) && old.version == 1);
            replace(&world, &secret(), old).await.unwrap();
            assert_eq!(world.iam.get(&secret(), 3).unwrap().bindings, read.bindings);
            assert_eq!(world.reopened().await.get(&secret(), 3).unwrap().bindings, read.bindings, "nor does a restart");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_policy_makes_it_panic(parts in proptest::collection::vec((".{0,30}", ".{0,40}", any::<i32>()), 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            for (role, member, version) in &parts {
                for (role, member) in [(role.as_str(), member.as_str()), ("roles/viewer", member), ("roles/viewer", &format!("user:{member}"))] {
                    let policy = Policy { version: *version, bindings: vec![binding(role, &[member])], ..Policy::default() };
                    let _ = replace(&world, &Resource::new("secretmanager.googleapis.com", role), policy).await;
                    let _ = world.allows(&user(member), role, &Resource::new("iam.googleapis.com", member));
                }
            }
        });
    }
}
