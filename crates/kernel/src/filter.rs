//! The filters of list methods: Google's AIP-160, such as `name:asecret OR name:bsecret`,
//! `labels.env=prod AND NOT rotation:*`, `state:(ENABLED OR DISABLED)`, `create_time>2026-01-01T00:00:00Z`.
//!
//! `OR` binds tighter than `AND`, terms side by side mean `AND`, `:` asks whether a field has a value (text is
//! searched, whatever its case) and `=` whether it is that value (with `*` for anything at either end).
//!
//! A filter is typed while it is read: an unknown field, or a time that is none, is an error even where
//! nothing is listed, and asking an item cannot fail. Declined: functions, and regular expressions, which
//! Google declines too. A product whose filters are another language (Logging) has its own.

use crate::{Error, Result, time::Micros};

mod parse;

/// The most bytes in a filter.
const MAX_LENGTH: usize = 4096;
/// The most levels of parentheses.
const MAX_DEPTH: usize = 32;

/// What kind of value a field holds, which decides how it compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A resource's name: sought in its last id, which items answer for as the field `id`, or in the whole of
    /// it where what is sought contains a slash.
    Name,
    /// A moment.
    Time,
    /// A length of time.
    Duration,
    /// A message or a flag of which one can only ask whether it is there.
    Presence,
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text, or a name.
    Text(&'a str),
    /// A moment, or a length of time.
    Time(Micros),
    /// It is there.
    Present,
}

/// Something that filters can be asked of.
pub trait Filterable {
    /// The kind of the field at a path, such as `["labels", "env"]`; `None` when there is no such field.
    fn kind(path: &[&str]) -> Option<Kind>;
    /// Hands each value the field has to `see`, until that returns true; says whether it did.
    fn any(&self, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool;
}

/// A filter that has been read and found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Node);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Every one of these holds; all items, when there are none.
    All(Vec<Node>),
    /// At least one of these holds.
    Any(Vec<Node>),
    /// This does not hold.
    Not(Box<Node>),
    /// A field has such a value.
    Field(Vec<String>, Test),
}

/// What is asked of a field's values.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// That there is one.
    Present,
    /// That one contains this text, whatever its case. In lowercase.
    Contains(String),
    /// That one is this text.
    Is(Pattern),
    /// That one compares so with this text.
    Text(Order, String),
    /// That one compares so with this moment or length of time.
    Time(Order, Micros),
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The same.
    Equal,
    /// Before.
    Less,
    /// Before or the same.
    LessOrEqual,
    /// After.
    Greater,
    /// After or the same.
    GreaterOrEqual,
}

/// Text with `*` for anything, at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    open_start: bool,
    open_end: bool,
}

impl Filter {
    /// Reads a filter over items of this type. An empty one lets everything through.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, saying where and what, for anything that is no filter over such items.
    pub fn parse<T: Filterable>(text: &str) -> Result<Filter> {
        if text.len() > MAX_LENGTH {
            return Err(invalid(format!("longer than {MAX_LENGTH} bytes")));
        }
        parse::filter(text, T::kind).map(Filter).map_err(invalid)
    }

    /// Whether an item passes.
    pub fn matches<T: Filterable>(&self, item: &T) -> bool {
        self.0.matches(item)
    }
}

impl Node {
    fn matches<T: Filterable>(&self, item: &T) -> bool {
        match self {
            Node::All(parts) => parts.iter().all(|part| part.matches(item)),
            Node::Any(parts) => parts.iter().any(|part| part.matches(item)),
            Node::Not(part) => !part.matches(item),
            Node::Field(path, test) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                item.any(&path, &mut |value| test.holds(&value))
            }
        }
    }
}

impl Test {
    fn holds(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Test::Present, _) => true,
            (Test::Contains(part), Value::Text(text)) => text.to_lowercase().contains(part),
            (Test::Is(pattern), Value::Text(text)) => pattern.matches(text),
            (Test::Text(order, than), Value::Text(text)) => order.holds(text.cmp(&than.as_str())),
            (Test::Time(order, than), Value::Time(time)) => order.holds(time.cmp(than)),
            _ => false,
        }
    }
}

impl Order {
    fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Order::Equal => ordering.is_eq(),
            Order::Less => ordering.is_lt(),
            Order::LessOrEqual => ordering.is_le(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        let (text, open_start) = text.strip_prefix('*').map_or((text, false), |rest| (rest, true));
        let (text, open_end) = text.strip_suffix('*').map_or((text, false), |rest| (rest, true));
        Pattern { text: text.to_owned(), open_start, open_end }
    }

    fn matches(&self, text: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => text == self.text,
            (false, true) => text.starts_with(&self.text),
            (true, false) => text.ends_with(&self.text),
            (true, true) => text.contains(&self.text),
        }
    }
}

fn invalid(what: impl std::fmt::Display) -> Error {
    Error::bad_field("filter", format!("Invalid filter: {what}."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small thing with a field of every kind.
    struct Item {
        name: &'static str,
        labels: Vec<(&'static str, &'static str)>,
        created: u64,
        rotates: bool,
    }

    impl Filterable for Item {
        fn kind(path: &[&str]) -> Option<Kind> {
            match path {
                ["name"] => Some(Kind::Name),
                ["labels", _] => Some(Kind::Text),
                ["labels"] | ["rotation"] => Some(Kind::Presence),
                ["create_time"] => Some(Kind::Time),
                _ => None,
            }
        }

        fn any(&self, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
            match path {
                ["id"] => see(Value::Text(self.name)),
                ["name"] => see(Value::Text(&format!("projects/p/secrets/{}", self.name))),
                ["labels"] => !self.labels.is_empty() && see(Value::Present),
                ["labels", key] => self.labels.iter().any(|(k, v)| k == key && see(Value::Text(v))),
                ["create_time"] => see(Value::Time(Micros(self.created))),
                ["rotation"] => self.rotates && see(Value::Present),
                _ => false,
            }
        }
    }

    const NEW_YEAR_2026: u64 = 1_767_225_600_000_000;

    fn passes(text: &str) -> bool {
        let item = Item {
            name: "DB-password",
            labels: vec![("env", "prod"), ("team", "")],
            created: NEW_YEAR_2026,
            rotates: false,
        };
        Filter::parse::<Item>(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&item)
    }

    #[test]
    fn what_googles_page_shows_is_understood() {
        for yes in [
            "",
            "  ",
            "name:db",
            "name:asecret OR name:db-",
            "labels.env=prod",
            "labels.env:PR",
            "labels.env:*",
            "labels.team:*",
            "NOT rotation:*",
            "-rotation:*",
            "labels:*",
            "name:(x OR db)",
            "name:(db AND pass)",
            "labels.env=(dev OR prod)",
            "create_time>2025-12-31T23:59:59Z AND create_time<2026-06-01T06:00:00Z",
            "create_time>=2026-01-01T00:00:00Z",
            "create_time>2025-12-31",
            "createTime<=\"2026-01-01T00:00:00Z\"",
            "name = \"DB-password\"",
            "name=DB-*",
            "name=*word",
            "name=projects/p/secrets/DB-password",
            "name:secrets/db",
            "labels.env!=dev",
            "labels.nothing!=dev",
            "name:db labels.env=prod",
            "password",
            "name:db AND (labels.env=dev OR labels.env=prod)",
            // OR binds tighter than AND.
            "labels.env=prod OR name:x AND name:db",
        ] {
            assert!(passes(yes), "{yes}");
        }
        for no in [
            "name:x",
            "name:secrets",
            "labels.env=Prod",
            "labels.env=dev",
            "NOT name:db",
            "rotation:*",
            "name:db name:x",
            "create_time<2026-01-01T00:00:00Z",
            "name:db OR name:y AND name:x",
            "labels.env!=prod",
            "nothing",
        ] {
            assert!(!passes(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_and_says_so() {
        for (bad, why) in [
            ("colour:red", "colour"),
            ("labels.env=", "value"),
            ("(name:a", ")"),
            ("name:a)", "unexpected"),
            ("AND", "term"),
            ("name:a OR", "term"),
            ("create_time>tomorrow", "time"),
            ("rotation=5", "presence"),
            ("name~\"a.*\"", "regular expressions"),
            ("name:\"a", "quote"),
            (&"(".repeat(40), "deep"),
            (&"x ".repeat(4000), "longer"),
        ] {
            let error = Filter::parse::<Item>(bad).unwrap_err();
            assert!(error.message().contains(why), "{bad}: {}", error.message());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = Filter::parse::<Item>(&text);
        }

        #[test]
        fn nor_does_anything_that_looks_like_a_filter(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "name", "labels.env", "create_time", ":", "=", "!=", "<", ">=", "(", ")", " ", " AND ", " OR ",
                    "NOT ", "-", "\"", "\\", "*", "a", "é", ".", "2026-01-01T00:00:00Z", "~",
                ]),
                0..40,
            )
        ) {
            let item = Item { name: "n", labels: vec![], created: 0, rotates: true };
            if let Ok(filter) = Filter::parse::<Item>(&parts.concat()) {
                filter.matches(&item);
            }
        }

        #[test]
        fn a_quoted_value_is_found_as_it_is(value in "[^*]{1,30}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = Filter::parse::<Item>(&format!("labels.env=\"{quoted}\"")).unwrap();
            let wanted = Node::Field(
                vec!["labels".into(), "env".into()],
                Test::Is(Pattern { text: value, open_start: false, open_end: false }),
            );
            prop_assert_eq!(filter, Filter(wanted));
        }
    }
}
