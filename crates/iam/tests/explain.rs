use ::iam::{Explanation, Question};
use apis::google::{
    cloud::policytroubleshooter::iam::v3::{
        policy_troubleshooter::TROUBLESHOOT_IAM_POLICY, troubleshoot_iam_policy_response::OverallAccessState,
        *,
    },
    iam::v1::{Binding, Policy},
    r#type::Expr,
};
use kernel::Principal;
use proptest::prelude::*;

use crate::{
    groups::{create, join},
    policies::{ASKED, MEMBERS, ROLES, any_policy, binding, replace, set},
    support::*,
};

const ACCESS: &str = "secretmanager.versions.access";
const ACCESSOR: &str = "roles/secretmanager.secretAccessor";

fn explain(world: &World, principal: Principal, permission: &str) -> Explanation {
    world.iam.explain(&Question {
        principal,
        permission: permission.into(),
        service: secret().service.into(),
        name: secret().name,
        time: world.clock.now(),
        destination: None,
        resource: None,
    })
}

fn until(title: &str, time: &str) -> Option<Expr> {
    let expression = format!("request.time < timestamp('{time}')");
    Some(Expr { title: title.into(), expression, ..Expr::default() })
}

#[tokio::test]
async fn the_binding_that_decided_is_named() {
    let world = World::new().await;
    let ada = "user:ada@example.com";
    let past = Binding { condition: until("was", "2020-01-01T00:00:00Z"), ..binding(ACCESSOR, &[ada]) };
    let crew = binding(ACCESSOR, &["user:bob@example.com", "group:crew@example.com"]);
    let policy = Policy { version: 3, bindings: vec![past, crew], ..Policy::default() };
    replace(&world, &project(), policy).await.unwrap();
    set(&world, &secret(), vec![binding("roles/secretmanager.viewer", &[ada])]).await.unwrap();

    let refused = explain(&world, user("ada@example.com"), ACCESS);
    assert!(!refused.allowed && refused.roles.contains(&ACCESSOR.to_owned()));
    let levels: Vec<&str> = refused.levels.iter().map(|level| level.resource.as_str()).collect();
    assert_eq!(
        levels,
        [
            "//secretmanager.googleapis.com/projects/demo-project/secrets/s",
            "//cloudresourcemanager.googleapis.com/projects/demo-project"
        ]
    );
    let viewer = &refused.levels[0].bindings[0];
    assert!(viewer.names() && !viewer.has_permission);
    let expired = refused.levels[1].bindings.iter().find(|binding| binding.condition.is_some()).unwrap();
    assert_eq!(expired.condition.as_ref().unwrap().holds, Ok(false));

    let crew = create(&world, "crew@example.com").await;
    join(&world, &crew, "ada@example.com", "MEMBER").await.unwrap();
    let allowed = explain(&world, user("ada@example.com"), ACCESS);
    assert!(allowed.allowed);
    let by = allowed.levels[1].bindings.iter().find(|binding| binding.grants()).unwrap();
    assert_eq!(by.members.iter().find(|(_, is_named)| *is_named).unwrap().0, "group:crew@example.com");
}

#[tokio::test]
async fn the_troubleshooter_tells_who_may_see_it() {
    let world = World::new().await;
    let ada = binding(ACCESSOR, &["user:ada@example.com"]);
    let later = Binding { condition: until("soon", "2040-01-01T00:00:00Z"), ..ada };
    let owner = binding("roles/owner", &["user:ada@haar.localhost"]);
    let policy = Policy { version: 3, bindings: vec![later, owner], ..Policy::default() };
    replace(&world, &project(), policy).await.unwrap();
    let asked = |receive_time| TroubleshootIamPolicyRequest {
        access_tuple: Some(AccessTuple {
            principal: "ada@example.com".into(),
            full_resource_name: "//secretmanager.googleapis.com/projects/123456789012/secrets/s".into(),
            permission: ACCESS.into(),
            condition_context: Some(ConditionContext {
                request: Some(condition_context::Request { receive_time }),
                ..ConditionContext::default()
            }),
            ..AccessTuple::default()
        }),
    };
    let answer = world.call(world.owner(), TROUBLESHOOT_IAM_POLICY, asked(None)).await.unwrap();
    assert_eq!(answer.overall_access_state(), OverallAccessState::CanAccess);
    let policies = answer.allow_policy_explanation.unwrap().explained_policies;
    let bindings = &policies[1].binding_explanations;
    let by = bindings.iter().find(|one| one.allow_access_state() == AllowAccessState::Granted).unwrap();
    assert_eq!(by.role, ACCESSOR);
    assert!(by.memberships.contains_key("user:ada@example.com") && by.condition_explanation.is_some());
    assert_eq!(policies[1].policy.as_ref().unwrap().version, 3);

    let late = asked(Some(prost_types::Timestamp { seconds: 2_300_000_000, nanos: 0 }));
    let answer = world.call(world.owner(), TROUBLESHOOT_IAM_POLICY, late).await.unwrap();
    assert_eq!(answer.overall_access_state(), OverallAccessState::CannotAccess);
    let stranger = world.caller(user("eve@example.com"));
    let answer = world.call(stranger, TROUBLESHOOT_IAM_POLICY, asked(None)).await.unwrap();
    assert_eq!(answer.overall_access_state(), OverallAccessState::UnknownInfo);
    let policies = answer.allow_policy_explanation.unwrap().explained_policies;
    assert!(policies.iter().all(|policy| policy.policy.is_none() && policy.binding_explanations.is_empty()));
}

#[tokio::test]
async fn a_location_has_no_policy_that_could_be_hidden() {
    let world = World::new().await;
    let viewer = binding("roles/run.viewer", &["user:ada@example.com"]);
    let owner = binding("roles/owner", &["user:ada@haar.localhost"]);
    set(&world, &project(), vec![viewer, owner]).await.unwrap();
    let full_resource_name = "//run.googleapis.com/projects/demo-project/locations/l/services/s/revisions/r";
    let asked = |permission: &str| TroubleshootIamPolicyRequest {
        access_tuple: Some(AccessTuple {
            principal: "ada@example.com".into(),
            full_resource_name: full_resource_name.into(),
            permission: permission.into(),
            ..AccessTuple::default()
        }),
    };
    let answer =
        world.call(world.owner(), TROUBLESHOOT_IAM_POLICY, asked("run.services.update")).await.unwrap();
    assert_eq!(answer.overall_access_state(), OverallAccessState::CannotAccess, "and not unknown");
    let policies = answer.allow_policy_explanation.unwrap().explained_policies;
    let names: Vec<&str> = policies.iter().map(|policy| policy.full_resource_name.as_str()).collect();
    assert_eq!(
        names,
        [
            "//run.googleapis.com/projects/demo-project/locations/l/services/s",
            "//cloudresourcemanager.googleapis.com/projects/demo-project"
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_explained_is_what_is_decided(on_secret in any_policy(0), on_project in any_policy(2)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let given = |policy: &Vec<(usize, Vec<usize>)>| {
                let members = |members: &Vec<usize>| members.iter().map(|member| MEMBERS[*member]).collect::<Vec<_>>();
                policy.iter().map(|(role, named)| binding(ROLES[*role], &members(named))).collect()
            };
            set(&world, &secret(), given(&on_secret)).await.unwrap();
            set(&world, &project(), given(&on_project)).await.unwrap();
            for principal in [Principal::Anonymous, user("a@x.com"), machine("s@far.iam.gserviceaccount.com")] {
                for permission in ASKED {
                    let explained = explain(&world, principal.clone(), permission);
                    assert_eq!(explained.allowed, world.allows(&principal, permission, &secret()), "{principal:?} {permission}");
                }
            }
        });
    }
}
