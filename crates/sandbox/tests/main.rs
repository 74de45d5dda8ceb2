//! Stories about instances, told to a real kernel.
//!
//! The harness is our own, because the program under test executes itself: as the helper, as what runs inside an
//! instance (`inside …`), and as a haar that is about to be killed (`parent …`). What a host cannot do is skipped by
//! name, with the reason. A word on the command line selects the stories whose names contain it.
//!
//! | file | what belongs there |
//! | --- | --- |
//! | `world.rs` | the root filesystem that the stories share, and how to run something in it |
//! | `inside.rs` | what runs in an instance |
//! | `harm.rs` | what runs in an instance and means harm |
//! | `attacks.rs` | prepared images, neighbours and appetites |
//! | `beside.rs` | instances that share a network |
//! | `build.rs` | the host's network, and directories that are lent |
//! | `life.rs` | starting, ending, output, signals, users |
//! | `walls.rs` | what holds a workload, tried as it would try |
//! | `ways.rs` | where the connections lead that an instance begins |
//! | `wires.rs` | sockets in and out |
//! | `limits.rs` | memory, processes, freezing, usage |
//! | `traces.rs` | what is left behind: nothing |

// Clippy knows tests by an attribute that a harness of one's own does not have.
#![allow(clippy::unwrap_used)]

#[path = "stories/attacks.rs"]
mod attacks;
#[path = "stories/beside.rs"]
mod beside;
#[path = "stories/build.rs"]
mod build;
#[path = "stories/harm.rs"]
mod harm;
#[path = "stories/inside.rs"]
mod inside;
#[path = "stories/life.rs"]
mod life;
#[path = "stories/limits.rs"]
mod limits;
#[path = "stories/traces.rs"]
mod traces;
#[path = "stories/walls.rs"]
mod walls;
#[path = "stories/ways.rs"]
mod ways;
#[path = "stories/wires.rs"]
mod wires;
#[path = "stories/world.rs"]
mod world;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::{Duration, Instant};

use sandbox::Level;
use world::World;

/// What a story needs of the host.
#[derive(Clone, Copy)]
enum Needs {
    Namespaces,
    Limits,
    Root,
}

type Told<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
type Story = (&'static str, Needs, for<'a> fn(&'a World) -> Told<'a>);

macro_rules! stories {
    ($($needs:ident $module:ident::$name:ident,)*) => {
        &[$((stringify!($name), Needs::$needs, |world| Box::pin($module::$name(world))),)*]
    };
}

const STORIES: &[Story] = stories![
    Namespaces life::a_program_says_hello_on_both_outputs,
    Namespaces life::exit_codes_and_signals_are_told_apart,
    Namespaces life::a_program_that_cannot_run_says_why,
    Namespaces life::a_polite_program_ends_by_itself_when_stopped,
    Root life::a_polite_program_need_not_be_root,
    Namespaces life::a_deaf_program_is_killed_when_the_grace_is_over,
    Namespaces life::orphans_are_reaped,
    Namespaces life::environment_directory_and_host_name_are_as_asked,
    Root life::users_are_those_of_the_image,
    Root life::a_user_may_open_standard_output_by_name,
    Namespaces life::files_are_put_in_place_of_what_the_image_has,
    Namespaces life::a_dropped_instance_ends,
    Namespaces walls::two_instances_do_not_see_each_other_nor_the_host,
    Namespaces walls::the_host_s_files_are_out_of_reach,
    Namespaces walls::forbidden_calls_are_refused,
    Namespaces walls::proc_and_sys_are_masked,
    Namespaces walls::devices_are_the_harmless_ones,
    Namespaces walls::a_linked_volume_target_stays_inside,
    Namespaces walls::an_image_cannot_move_proc,
    Namespaces walls::a_read_only_volume_cannot_be_written,
    Root walls::the_first_process_cannot_be_touched,
    Root attacks::device_nodes_of_images_and_volumes_are_dead,
    Root attacks::a_set_uid_program_gains_nothing,
    Namespaces attacks::links_lead_nowhere,
    Namespaces attacks::processes_of_the_host_get_no_signal,
    Namespaces attacks::abstract_sockets_of_the_host_are_not_there,
    Namespaces attacks::nothing_of_the_kernel_can_be_written,
    Namespaces attacks::calls_by_other_numbers_are_refused,
    Limits attacks::everything_in_memory_counts_together,
    Limits attacks::files_without_content_count,
    Namespaces attacks::what_the_machine_shares_is_not_one_instance_s,
    Limits attacks::what_waits_in_sockets_counts,
    Namespaces wires::a_server_inside_is_reached,
    Namespaces wires::many_connections_outlast_a_batch,
    Namespaces wires::programs_inside_reach_our_listeners,
    Namespaces wires::a_socket_of_the_host_is_reached_through_a_volume,
    Namespaces ways::every_connection_leads_to_haar,
    Namespaces ways::an_instance_may_listen_on_the_ports_of_haar,
    Namespaces ways::without_a_way_out_only_what_is_offered_is_there,
    Namespaces ways::what_cannot_be_taken_out_is_refused_at_once,
    Namespaces ways::two_wired_instances_do_not_meet,
    Namespaces beside::a_sidecar_is_reached_on_the_loopback,
    Namespaces beside::a_sidecar_has_all_else_for_itself,
    Namespaces beside::each_ends_by_itself,
    Limits beside::a_sidecar_has_its_own_limit,
    Namespaces build::a_step_reaches_what_the_host_reaches,
    Namespaces build::a_step_has_its_own_processes_and_name,
    Namespaces build::nothing_is_offered_in_the_hosts_network,
    Root build::a_directory_is_another_users_to_fill,
    Root build::a_directory_is_lent_without_root_too,
    Root build::a_directory_is_lent_with_subordinate_ids,
    Limits limits::limits_change_while_it_runs,
    Limits limits::too_much_memory_is_told_as_such,
    Limits limits::files_in_memory_count,
    Limits limits::a_fork_bomb_fizzles_out,
    Limits limits::a_frozen_instance_stands_still,
    Limits limits::usage_is_counted,
    Namespaces traces::a_scratch_directory_is_empty_afterwards,
    Namespaces traces::nothing_outlives_a_killed_haar,
    Namespaces traces::a_failed_start_leaves_nothing,
    Namespaces traces::probing_leaves_the_caller_as_it_was,
    Root traces::it_works_without_root_too,
    Namespaces traces::a_killed_helper_is_replaced,
    Namespaces life::without_walls_a_program_still_lives_and_dies_with_us,
];

fn main() {
    sandbox::helper::entry();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("inside") => inside::run(&words[1..]),
        Some("parent") => traces::be_a_parent(&words[1..]),
        Some("lend") => build::lend_by(&words[1..]),
        Some("hello") => life::say_hello_by(&words[1..]),
        _ => tell(words.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default()),
    }
}

fn tell(wanted: String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = World::new();
    println!("{}", world.sandbox.host().sentence);
    let mut failed = 0;
    for (name, needs, story) in STORIES.iter().filter(|(name, ..)| name.contains(&wanted)) {
        if let Some(reason) = missing(*needs, world.sandbox.host().level) {
            println!("story {name} ... skipped: {reason}");
            continue;
        }
        let begin = Instant::now();
        let told = runtime.block_on(async {
            let told = AssertUnwindSafe(story(&world));
            tokio::time::timeout(Duration::from_secs(30), world::caught(told)).await
        });
        let outcome = match told {
            Ok(Ok(())) => "ok",
            Ok(Err(())) => "FAILED",
            Err(_) => "FAILED: it hangs",
        };
        failed += usize::from(outcome != "ok");
        println!("story {name} ... {outcome} ({} ms)", begin.elapsed().as_millis());
    }
    drop(runtime.enter());
    drop(world);
    runtime.shutdown_timeout(Duration::from_secs(1));
    std::process::exit(i32::from(failed > 0));
}

fn missing(needs: Needs, level: Level) -> Option<&'static str> {
    match (needs, level) {
        (_, Level::Process) => Some("this host allows no user namespaces"),
        (Needs::Limits, Level::UserNamespaces { limits: false }) => {
            Some("this host gives us no control groups")
        }
        (Needs::Root, Level::UserNamespaces { .. }) => Some("needs root"),
        _ => None,
    }
}
