//! Stories about builds: real folders, a real sandbox, a real store of images, and no internet.
//!
//! The harness is our own, because the program under test executes itself as the sandbox's helper. What a host cannot do
//! is skipped by name, with the reason. A word on the command line selects the stories whose names contain it.
//!
//! | file | what belongs there |
//! | --- | --- |
//! | `world.rs` | builds with all they need, and folders for them |
//! | `maker.rs` | the store of images as builds see it |
//! | `detect.rs` | what a folder is found to be |
//! | `python.rs` | apps that are built, started and asked; those that fail |
//! | `folders.rs` | what comes in |

// Tests may panic; clippy does not see that these are some, because the harness is our own.
#![allow(clippy::unwrap_used)]

#[path = "stories/detect.rs"]
mod detect;
#[path = "stories/folders.rs"]
mod folders;
#[path = "stories/maker.rs"]
mod maker;
#[path = "stories/python.rs"]
mod python;
#[path = "stories/world.rs"]
mod world;

use std::{future::Future, pin::Pin, sync::Arc, time::Instant};

use world::World;

type Told = Pin<Box<dyn Future<Output = ()> + Send>>;
type Story = (&'static str, fn(Arc<World>) -> Told);

macro_rules! stories {
    ($($module:ident::$name:ident,)*) => {
        &[$((stringify!($name), |world| Box::pin($module::$name(world))),)*]
    };
}

/// Those that look only.
const LOOKS: &[(&str, fn())] = &[
    ("each_app_is_found_to_be_what_it_is", detect::each_app_is_found_to_be_what_it_is),
    ("what_is_no_app_says_what_to_add", detect::what_is_no_app_says_what_to_add),
    ("links_lead_nowhere", detect::links_lead_nowhere),
];

const STORIES: &[Story] = stories![
    python::an_app_is_built_started_and_asked,
    python::what_is_known_is_not_built_again,
    python::pip_says_why_it_failed_and_tells_no_secret,
    python::django_s_files_are_collected_or_the_build_fails,
    python::a_step_is_nobody_and_sees_nobody,
    python::a_step_that_fills_the_disk_is_ended,
    python::projects_share_nothing_that_pip_fetched,
    folders::what_leads_out_of_a_folder_is_refused,
];

fn main() {
    sandbox::helper::entry();
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    for (name, look) in LOOKS.iter().filter(|(name, _)| name.contains(&word)) {
        look();
        println!("{name} ... ok");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new());
        if let Some(why) = world.impossible() {
            println!("{} stories skipped: {why}", STORIES.len());
            return;
        }
        for (name, story) in STORIES.iter().filter(|(name, _)| name.contains(&word)) {
            let started = Instant::now();
            tokio::spawn(story(world.clone())).await.unwrap_or_else(|_| panic!("{name} failed"));
            println!("{name} ... ok ({} ms)", started.elapsed().as_millis());
        }
    });
}
