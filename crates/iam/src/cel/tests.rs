use proptest::prelude::*;

use super::{
    parse::{Expr, Kind, Operator, parse},
    *,
};

const NOON: i128 = 1_800_000_000 * 1_000_000_000; // Friday, 2027-01-15T08:00:00Z

fn secret() -> Attributes<'static> {
    let resource = Target {
        service: "secretmanager.googleapis.com",
        kind: "secretmanager.googleapis.com/SecretVersion",
        name: "projects/1/secrets/tide/versions/3",
    };
    Attributes { time: NOON, resource: Some(resource), modified_roles: Some(&[]), destination: None }
}

fn holds(source: &str) -> Result<bool, Missing> {
    Program::compile(source)
        .unwrap_or_else(|fault| panic!("{source}: {fault} at {}", fault.at))
        .holds(&secret())
}

fn refused(source: &str) -> String {
    Program::compile(source).expect_err(source).why
}

#[test]
fn what_the_documentation_shows_means_what_it_says() {
    for (source, expected) in [
        ("request.time < timestamp('2027-01-15T08:00:01Z')", true),
        ("request.time < timestamp(\"2027-01-15T08:00:00Z\")", false),
        ("request.time >= timestamp('2027-01-15T09:00:00+01:00')", true),
        ("request.time > date('2027-01-15') && request.time < date('2027-01-16')", true),
        ("request.time - duration('1h30m') > timestamp('2027-01-15T06:00:00Z')", true),
        ("request.time - timestamp('2027-01-15T07:00:00Z') == duration('3600s')", true),
        ("request.time.getHours() == 8 && request.time.getMinutes() == 0", true),
        ("request.time.getHours('Europe/Berlin') == 9", true),
        ("request.time.getHours('America/New_York') == 3", true),
        ("request.time.getHours('-08:30') == 23 && request.time.getDate('-08:30') == 14", true),
        (
            "request.time.getDayOfWeek('Europe/Berlin') >= 1 && request.time.getDayOfWeek('Europe/Berlin') <= 5",
            true,
        ),
        (
            "request.time.getFullYear() == 2027 && request.time.getMonth() == 0 && request.time.getDayOfYear() == 14",
            true,
        ),
        ("resource.name.startsWith('projects/1/secrets/tide')", true),
        ("resource.name.endsWith(\"/versions/4\")", false),
        ("resource.name.extract('secrets/{name}/') == 'tide'", true),
        ("resource.name.extract('secrets/{name}') == 'tide/versions/3'", true),
        ("resource.name.extract('buckets/{name}/') == ''", true),
        ("resource.type == 'secretmanager.googleapis.com/SecretVersion'", true),
        ("resource.type in ['a', 'secretmanager.googleapis.com/SecretVersion']", true),
        ("resource.service != 'secretmanager.googleapis.com' || true", true),
        ("!(resource.name.contains('tide'))", false),
        ("resource.name.matches('^projects/[0-9]+/secrets/t')", true),
        ("size(resource.name) > 10 ? true : false", true),
        ("resource.matchTag('123/env', 'prod') || resource.hasTagKeyId('tagKeys/1')", false),
        ("api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly(['roles/viewer'])", true),
        ("duration('90m').getHours() == 1 && duration('1.5s').getMilliseconds() == 500", true),
        ("1 + 2 * 3 == 7 && -7 / 2 == -3 && 7 % 4 == 3 && !(1 in [])", true),
    ] {
        assert_eq!(holds(source), Ok(expected), "{source}");
    }
}

#[test]
fn what_a_request_does_not_have_decides_nothing() {
    assert_eq!(holds("destination.port == 22"), Err(Missing("destination.port")));
    assert_eq!(holds("destination.ip == '10.0.0.1' || resource.name != ''"), Ok(true));
    assert_eq!(holds("resource.name == '' && request.path == '/'"), Ok(false));
    assert_eq!(holds("request.path == '/' && resource.name == ''"), Ok(false));
    assert_eq!(
        holds("!(request.host == 'x')"),
        Err(Missing("request.host")),
        "nor does it hold turned round"
    );
    assert!(holds("1 / 0 == 1").is_err() && holds("9223372036854775807 + 1 == 0").is_err());
    let proxied = Attributes { destination: Some(("10.0.0.1".parse().unwrap(), 22)), ..secret() };
    let program = Program::compile("destination.ip == '10.0.0.1' && destination.port == 22").unwrap();
    assert_eq!(program.holds(&proxied), Ok(true));
}

#[test]
fn what_is_wrong_is_said_before_it_is_used() {
    for (source, why) in [
        ("", "Syntax error: mismatched input '<EOF>'"),
        ("request.time <", "Syntax error: mismatched input '<EOF>'"),
        ("foo == 1", "undeclared reference to 'foo' (in container '')"),
        ("resource.nam == 'x'", "undeclared reference to 'resource.nam' (in container '')"),
        ("resource.name.upper() == 'x'", "undeclared reference to 'upper' (in container '')"),
        ("request.time < '2020'", "found no matching overload for '_<_' applied to '(timestamp, string)'"),
        ("resource.name == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
        ("resource.name", "expression result type is string, but a condition must give bool"),
        ("timestamp('yesterday') < request.time", "invalid timestamp: \"yesterday\""),
        ("resource.name.extract('x') == ''", "invalid extract template: \"x\""),
        ("resource.name.matches('(')", "invalid matches argument: \"(\""),
        ("request.time.getHours('Mars/Olympus') == 1", "unknown time zone"),
        ("'a", "Syntax error: a string is not closed"),
        ("[1, 'a'] == 1", "expected type 'int' but found 'string'"),
        ("for == 1", "reserved identifier: for"),
        ("api.getAttribute('x', []).hasOnly([])", "unknown API attribute: \"x\""),
    ] {
        assert_eq!(refused(source), why, "{source}");
    }
    assert!(refused(&"(".repeat(10_000)).contains("levels deep"));
    assert!(refused(&format!("{}true", "!".repeat(10_000))).contains("levels deep"));
    assert!(refused(&format!("true{}", " && true".repeat(1_000))).contains("levels deep"));
    assert!(refused(&" ".repeat(MOST_BYTES + 1)).contains("exceeds limit"));
}

#[test]
fn logical_operators_are_counted() {
    let count = |source| Program::compile(source).unwrap().operators();
    assert_eq!(count("true"), 0);
    assert_eq!(count("!true || (false && 1 == 2) || resource.name.startsWith('&&')"), 4);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,4}", any::<String>()]
}

/// Any tree that the grammar has, sensible or not.
fn tree() -> impl Strategy<Value = Expr> {
    let expr = |kind| Expr { at: 0, kind };
    let name = || {
        "[a-df-h][a-z_0-9]{0,6}"
            .prop_filter("keywords", |name| parse(name).is_ok_and(|tree| matches!(tree.kind, Kind::Name(_))))
    };
    let leaf = prop_oneof![
        any::<bool>().prop_map(Kind::Bool),
        any::<i64>().prop_map(Kind::Int),
        text().prop_map(Kind::Text),
        name().prop_map(Kind::Name),
    ]
    .prop_map(expr);
    leaf.prop_recursive(5, 40, 3, move |inner| {
        let operators = [
            Operator::Or,
            Operator::And,
            Operator::Equal,
            Operator::In,
            Operator::Less,
            Operator::Add,
            Operator::Subtract,
            Operator::Multiply,
            Operator::Remainder,
        ];
        let operator = proptest::sample::select(operators.to_vec());
        let some = proptest::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            some.clone().prop_map(Kind::List),
            (inner.clone(), name()).prop_map(|(operand, name)| Kind::Field(operand.into(), name)),
            (name(), some.clone()).prop_map(|(name, arguments)| Kind::Call(None, name, arguments)),
            (inner.clone(), name(), some).prop_map(|(operand, name, arguments)| Kind::Call(
                Some(operand.into()),
                name,
                arguments
            )),
            inner.clone().prop_map(|operand| Kind::Not(operand.into())),
            inner.clone().prop_map(|operand| Kind::Minus(operand.into())),
            (operator, inner.clone(), inner.clone()).prop_map(|(operator, left, right)| Kind::Binary(
                operator,
                left.into(),
                right.into()
            )),
            (inner.clone(), inner.clone(), inner).prop_map(|(test, yes, no)| Kind::Choice(
                test.into(),
                yes.into(),
                no.into()
            )),
        ]
        .prop_map(expr)
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in any::<String>()) {
        if let Ok(program) = Program::compile(&source) {
            let _ = program.holds(&secret());
        }
    }

    #[test]
    fn no_tokens_make_it_panic(parts in proptest::collection::vec(proptest::sample::select(vec![
        "request.time", "resource.name", ".startsWith(", ".extract(", "'{a}/'", ")", "(", "&&", "||", "!", "==", "<",
        "timestamp('2027-01-15T08:00:00Z')", "duration('1h')", ".getHours(", "in", "[", "]", ",", "1", "-", "?", ":",
        "9223372036854775807", "+", "/", "%", "\"", "r'\\'", "'\\u00e5'", "\\", " ", "true", ".hasOnly(",
        "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', [])", "size(", "destination.ip",
    ]), 0..16)) {
        if let Ok(program) = Program::compile(&parts.concat()) {
            let _ = program.holds(&secret());
        }
    }

    #[test]
    fn what_is_printed_is_read_as_the_same(tree in tree()) {
        let printed = tree.to_string();
        let read = parse(&printed);
        prop_assert_eq!(read, Ok(tree), "{}", printed);
    }

    #[test]
    fn no_moment_makes_it_panic(time in any::<i128>(), zone in "[A-Za-z/+:0-9-]{0,12}", length in "[0-9.a-zµ-]{0,12}") {
        let _ = time::duration(&length);
        let _ = time::timestamp(&length);
        if let Some(zone) = time::Zone::named(&zone) {
            let _ = time::Part::Hours.of(time, &zone);
        }
    }
}
