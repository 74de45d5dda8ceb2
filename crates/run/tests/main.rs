//! Stories about services, told through the API's handlers, a real sandbox and a real ingress.
//!
//! The harness is our own, because the program under test executes itself: as the sandbox's helper, and as the app
//! inside instances (`app …`). What a host cannot do is skipped by name, with the reason. A word on the command line
//! selects the stories whose names contain it.
//!
//! | file | what belongs there |
//! | --- | --- |
//! | `world.rs` | an engine with everything around it, and how to call it |
//! | `ports.rs` | the other products, as small as they can honestly be |
//! | `app.rs` | what runs in instances |
//! | `knative.rs` | what `gcloud run` does |
//! | `v2.rs` | what client libraries and Terraform do |
//! | `jobs.rs` | jobs, executions and tasks |
//! | `workers.rs` | worker pools |
//! | `domains.rs` | services under names of people's own |
//! | `outside.rs` | what instances reach, and the ports that are theirs |
//! | `failures.rs` | what cannot serve, and what is refused |
//! | `volumes.rs` | databases, secrets and memory at a path |
//! | `cpu.rs` | what CPU instances have |
//! | `usage.rs` | what instances have used |
//! | `readiness.rs` | instances that get no requests for a while |
//! | `sidecars.rs` | several containers as one instance |
//! | `endings.rs` | overtaken, deleted, restarted: and nothing is left |

// Tests may panic; clippy does not see that these are some, because the harness is our own.
#![allow(clippy::unwrap_used)]

#[path = "stories/app.rs"]
mod app;
#[path = "stories/cpu.rs"]
mod cpu;
#[path = "stories/domains.rs"]
mod domains;
#[path = "stories/endings.rs"]
mod endings;
#[path = "stories/failures.rs"]
mod failures;
#[path = "stories/jobs.rs"]
mod jobs;
#[path = "stories/knative.rs"]
mod knative;
#[path = "stories/outside.rs"]
mod outside;
#[path = "stories/ports.rs"]
mod ports;
#[path = "stories/readiness.rs"]
mod readiness;
#[path = "stories/sidecars.rs"]
mod sidecars;
#[path = "stories/usage.rs"]
mod usage;
#[path = "stories/v2.rs"]
mod v2;
#[path = "stories/volumes.rs"]
mod volumes;
#[path = "stories/workers.rs"]
mod workers;
#[path = "stories/world.rs"]
mod world;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use world::World;

type Told = Pin<Box<dyn Future<Output = ()> + Send>>;
type Story = (&'static str, fn(Arc<World>) -> Told);

macro_rules! stories {
    ($($module:ident::$name:ident,)*) => {
        &[$((stringify!($name), |world| Box::pin($module::$name(world))),)*]
    };
}

const STORIES: &[Story] = stories![
    knative::a_service_is_deployed_called_left_alone_and_called_again,
    knative::the_inside_of_an_instance_is_cloud_run_s,
    knative::a_service_read_and_written_back_makes_no_revision,
    knative::traffic_goes_back_to_an_older_revision,
    knative::revisions_that_nothing_needs_can_be_deleted,
    knative::a_revision_is_found_by_its_name_alone,
    v2::revisions_are_deleted_by_operations,
    v2::an_old_etag_changes_nothing,
    v2::services_come_and_go_by_operations,
    v2::a_mask_changes_what_it_names,
    outside::a_container_reaches_the_machine_s_networks,
    outside::a_container_may_have_any_port_of_ours,
    failures::what_does_not_start_says_why,
    failures::what_cannot_be_is_refused_at_once,
    failures::what_served_before_goes_on_serving,
    failures::too_much_memory_is_said,
    cpu::an_instance_without_requests_stands_still,
    cpu::an_instance_that_waits_for_its_first_request_stands_still,
    cpu::an_instance_whose_cpu_is_always_there_goes_on,
    cpu::a_start_is_given_more_cpu,
    volumes::a_database_is_there_while_its_account_may_connect,
    volumes::databases_are_asked_for_in_either_form,
    volumes::secrets_are_files_and_follow_their_versions,
    volumes::memory_is_a_volume_within_its_limit,
    volumes::a_task_finds_its_volumes,
    volumes::what_cannot_be_mounted_is_refused,
    usage::what_is_still_at_work_is_counted,
    usage::what_was_used_outlives_haar,
    usage::another_service_of_the_same_name_has_its_own_usage,
    readiness::an_instance_that_is_not_ready_gets_no_requests_until_it_is,
    readiness::what_is_not_ready_is_not_ended_and_what_is_not_well_is,
    readiness::a_readiness_probe_is_read_back_in_both_forms,
    readiness::a_readiness_probe_where_no_requests_come_is_refused,
    sidecars::containers_share_a_network_and_volumes_and_end_together,
    sidecars::containers_that_cannot_be_together_are_refused,
    endings::a_later_change_overtakes_an_earlier_one,
    endings::a_deletion_waits_for_nobody,
    endings::requests_under_way_are_finished_before_a_deletion_ends_them,
    endings::instances_are_kept_when_asked_for,
    endings::an_instance_that_is_not_well_is_replaced,
    endings::plain_processes_serve_too,
    endings::services_come_back_after_a_restart,
    jobs::a_job_runs_to_its_end,
    jobs::a_task_that_fails_is_tried_again,
    jobs::tasks_run_side_by_side_as_far_as_they_may,
    jobs::a_task_has_its_time,
    jobs::a_run_can_be_different,
    jobs::an_execution_can_be_cancelled,
    jobs::what_is_not_there_is_said,
    jobs::a_job_goes_with_all_it_has,
    jobs::a_restart_interrupts_an_attempt_and_no_more,
    jobs::gcloud_speaks_of_jobs_in_another_form,
    jobs::a_change_can_ask_for_an_execution,
    jobs::a_job_that_was_never_run_keeps_the_image_that_it_names,
    domains::a_domain_leads_to_its_service,
    domains::a_domain_is_held_by_one,
    workers::a_worker_pool_works_without_requests,
    workers::instances_are_split_between_revisions,
    workers::an_instance_that_ends_is_followed_by_another,
    workers::what_ends_at_once_takes_no_place,
    workers::worker_pools_outlive_haar_and_go_with_all_they_have,
    workers::gcloud_reads_pools_in_another_form,
    workers::a_pool_takes_no_requests_and_a_region_must_be_one,
];

fn main() {
    sandbox::helper::entry();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("app") => app::run(&words[1..]),
        _ => tell(words.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default()),
    }
}

fn tell(wanted: String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut failed = 0;
    let before = world::mounts();
    for (name, story) in STORIES.iter().filter(|(name, _)| name.contains(&wanted)) {
        let begin = Instant::now();
        let outcome = runtime.block_on(tell_one(*story));
        failed += usize::from(outcome.starts_with("FAILED"));
        println!("story {name} ... {outcome} ({} ms)", begin.elapsed().as_millis());
    }
    if world::mounts() != before {
        println!("FAILED: mounts are left");
        failed += 1;
    }
    std::process::exit(i32::from(failed > 0));
}

/// Each story has a world of its own, which must be empty afterwards.
async fn tell_one(story: fn(Arc<World>) -> Told) -> String {
    let world = match World::open_with(sandbox::Isolation::Best).await {
        Ok(world) => Arc::new(world),
        Err(reason) => return format!("skipped: {reason}"),
    };
    let told = tokio::time::timeout(Duration::from_secs(60), tokio::spawn(story(world.clone()))).await;
    let ended = world.end().await;
    match (told, ended) {
        (Err(_), _) => "FAILED: it hangs".into(),
        (Ok(Err(_)), _) => "FAILED".into(),
        (_, Err(left)) => format!("FAILED: {left}"),
        _ => "ok".into(),
    }
}
