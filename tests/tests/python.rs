//! Google's Python libraries with no options at all, over gRPC and over REST.

use tests::{Haar, PROJECT, client_program, python, skipped};

#[test]
fn secret_manager_speaks_grpc_and_rest() {
    let Some(python) = python() else { return skipped("Python's google-cloud-secret-manager") };
    let haar = Haar::start();
    for transport in ["grpc", "rest"] {
        let ran = haar
            .exec(&[&python.to_string_lossy(), &client_program("python/secrets.py"), transport])
            .succeeds();
        assert_eq!(ran.stdout.lines().last(), Some("all as on Google"), "{transport}: {ran:?}");
    }
}

#[test]
fn without_a_role_each_call_names_the_permission() {
    let Some(python) = python() else { return skipped("Python's Google libraries") };
    let haar = Haar::start();
    haar.api(
        "POST",
        &format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"),
        Some(&serde_json::json!({ "accountId": "stranger" })),
    );
    let stranger = format!("stranger@{PROJECT}.iam.gserviceaccount.com");
    for transport in ["grpc", "rest"] {
        let program = client_program("python/refused.py");
        let ran = haar.exec_as(&stranger, &[&python.to_string_lossy(), &program, transport]).succeeds();
        let refused: Vec<&str> =
            ran.stdout.lines().filter_map(|line| line.strip_prefix("refused: ")).collect();
        let permissions = [
            "secretmanager.versions.access",
            "run.services.list",
            "run.services.create",
            "logging.logEntries.list",
            "logging.logEntries.create",
        ];
        assert_eq!(refused, permissions, "{transport}: {ran:?}");
    }
}
