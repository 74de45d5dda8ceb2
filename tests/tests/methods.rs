//! `docs/compatibility.md` ends with every method that is served, the permission it asks, and a test that calls it.
//!
//! That part of the page is written by this test, after all others have run, with `make methods`; otherwise the test
//! holds the page against what a haar serves and against the tests there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::{Haar, methods::recorded};

/// What the generated part begins with.
const MARK: &str = "<!-- methods: written by `make methods` -->\n";

#[test]
fn the_page_names_every_method_its_permission_and_a_test() {
    let haar = Haar::start();
    let listed = haar.cli(&["api", "--list", "--json"]).succeeds();
    let served: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let path = root().join("docs/compatibility.md");
    let page = fs::read_to_string(&path).unwrap();
    let (by_hand, written) = page.split_once(MARK).unwrap_or((&page, ""));
    let named = if std::env::var_os("HAAR_WRITE_METHODS").is_some() {
        let fresh = describe(&served, &tests_by_method());
        fs::write(&path, [by_hand, MARK, &fresh].concat()).unwrap();
        fresh
    } else {
        written.to_owned()
    };

    let tests = named_tests(&named);
    assert_eq!(named, describe(&served, &tests), "docs/compatibility.md is not current: run `make methods`");
    let missing: Vec<_> = served.iter().map(name).filter(|method| !tests.contains_key(*method)).collect();
    assert!(missing.is_empty(), "no test calls {missing:#?}");
    for test in tests.values() {
        assert!(exists(test), "there is no test {test}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn name(method: &Value) -> &str {
    method["method"].as_str().expect("a name")
}

/// The page's tables, one for each host.
fn describe(served: &[Value], tests: &BTreeMap<String, String>) -> String {
    let mut page = String::from(
        "\n## Every method\n\nPermissions are asked before a method runs, unless it asks by itself as it runs. The last \
         column names a test in `tests/tests` that calls it.\n",
    );
    let mut host = "";
    for method in served {
        let its = method["host"].as_str().expect("a host");
        if its != host {
            host = its;
            let title = if host.is_empty() { "on the hosts of several products" } else { host };
            let _ = write!(page, "\n### {title}\n\n| method | asks | called by |\n| --- | --- | --- |\n");
        }
        let test = tests.get(name(method)).map_or("", String::as_str);
        let _ = writeln!(page, "| `{}` | {} | `{test}` |", name(method), asked(method));
    }
    page
}

fn asked(method: &Value) -> String {
    let one = |asked: &Value| {
        format!(
            "`{}` on `{}`",
            asked["permission"].as_str().expect("a name"),
            asked["resource"].as_str().expect("a resource")
        )
    };
    let all: Vec<_> = method["permissions"].as_array().expect("a list").iter().map(one).collect();
    if all.is_empty() { "as it runs".into() } else { all.join(", ") }
}

/// The test of each method that a page names.
fn named_tests(page: &str) -> BTreeMap<String, String> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let [method, _, test] = cells[..] else { return None };
        let test = test.strip_prefix('`')?.strip_suffix("` |")?;
        (!test.is_empty()).then(|| (method.trim_end_matches('`').to_owned(), test.to_owned()))
    });
    rows.collect()
}

/// For each method that the tests called when they last ran, the one that calls the fewest others.
fn tests_by_method() -> BTreeMap<String, String> {
    let mut stories: Vec<(BTreeSet<String>, String)> = fs::read_dir(recorded())
        .map(|files| files.filter_map(|file| story(&file.ok()?.path())).collect())
        .unwrap_or_default();
    stories.sort_by_key(|(methods, test)| (methods.len(), test.clone()));
    let mut found = BTreeMap::new();
    for (methods, test) in stories {
        for method in methods {
            found.entry(method).or_insert_with(|| test.clone());
        }
    }
    found
}

fn story(record: &Path) -> Option<(BTreeSet<String>, String)> {
    let test = record.file_name()?.to_str()?.replace('.', "::");
    let methods = fs::read_to_string(record).ok()?.lines().map(str::to_owned).collect();
    exists(&test).then_some((methods, test))
}

/// Whether there is a test of this name, such as `run::traffic::it_is_split`.
fn exists(test: &str) -> bool {
    let Some((module, function)) = test.rsplit_once("::") else { return false };
    let file = root().join("tests/tests").join(module.replace("::", "/")).with_extension("rs");
    fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {function}(")))
}
