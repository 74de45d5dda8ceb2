//! Terraform with Google's own provider: what it applies is there, plans clean and goes again.
//!
//! The provider is no part of Terraform, so it has to be had already: `HAAR_TERRAFORM_MIRROR` names a directory laid out
//! as Terraform's file-system mirrors are (`HOST/hashicorp/google/VERSION/OS_ARCH/terraform-provider-google_…`).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tests::{Haar, PROJECT, Ran, client_program, fetch, have, instances_run, run, skipped};

const MIRROR: &str = "HAAR_TERRAFORM_MIRROR";

#[test]
fn what_is_applied_plans_clean_and_is_destroyed() {
    let Some(mirror) = std::env::var_os(MIRROR).filter(|_| have("terraform")) else {
        return skipped(format!("Terraform's google provider (no directory in {MIRROR})"));
    };
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let terraform = Terraform::new(&haar, Path::new(&mirror));
    terraform.run(&["init"]).succeeds();
    terraform.run(&["apply", "-auto-approve"]).succeeds();

    let url = terraform.run(&["output", "-raw", "url"]).succeeds().stdout;
    let host = url.trim_start_matches("http://");
    let refused = fetch(&haar, host, "/");
    assert!(refused.starts_with("HTTP/1.1 403"), "nobody was made an invoker: {refused}");
    let account = format!("tide-reader@{PROJECT}.iam.gserviceaccount.com");
    let version =
        format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/tide/versions/1:access");
    let read = haar.api_as(Some(&account), "GET", &version, None);
    assert_eq!(read["payload"]["data"], "bG93IHdhdGVyIGF0IHNpeA==", "by the role that was bound: {read}");

    let plan = terraform.run(&["plan", "-detailed-exitcode"]);
    assert_eq!(plan.code, 0, "2 is a difference: {}", plan.stdout);
    terraform.run(&["destroy", "-auto-approve"]).succeeds();
    let left = haar.api("GET", &format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"), None);
    assert!(left.get("secrets").is_none(), "{left}");
}

/// Terraform in a directory of its own.
struct Terraform<'a>(&'a Haar);

impl<'a> Terraform<'a> {
    fn new(haar: &'a Haar, mirror: &Path) -> Self {
        let terraform = Terraform(haar);
        let configuration = client_program("terraform/main.tf");
        std::fs::copy(configuration, haar.home().join("main.tf")).expect("a configuration");
        let settings = format!("provider_installation {{\n  filesystem_mirror {{ path = {mirror:?} }}\n}}\n");
        std::fs::write(terraform.settings(), settings).expect("settings");
        terraform
    }

    fn settings(&self) -> PathBuf {
        self.0.home().join("terraform.rc")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let line = [&["exec", "--", "terraform"], arguments, &["-no-color"]].concat();
        let mut command: Command = self.0.command(&line);
        let variables = [("CHECKPOINT_DISABLE", "1"), ("TF_IN_AUTOMATION", "1"), ("TF_INPUT", "0")];
        command.envs(variables).env("TF_CLI_CONFIG_FILE", self.settings());
        run(command)
    }
}
