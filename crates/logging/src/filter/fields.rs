//! The fields of an entry that filters can name, and the way to each on the wire.
//!
//! Names are compared without regard to case and underscores, so that `logName`, `log_name` and `LOGNAME` are
//! one field; the keys of payloads and labels are taken as they are.

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Int,
    Flag,
    Duration,
    /// Labels: text by text.
    Map,
    /// `google.protobuf.Struct`.
    Struct,
    /// A message whose fields are not known here: one can only ask whether it is there.
    Opaque,
    Message(&'static [Field]),
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    name: &'static str,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
}

const fn field(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind }
}

/// `google.logging.v2.LogEntry`, but for what stands in a record's head.
pub(crate) static ENTRY: &[Field] = &[
    field("logname", 12, Kind::Text),
    field("resource", 8, Kind::Message(RESOURCE)),
    field("insertid", 4, Kind::Text),
    field("httprequest", 7, Kind::Message(HTTP_REQUEST)),
    field("labels", 11, Kind::Map),
    field("operation", 15, Kind::Message(OPERATION)),
    field("trace", 22, Kind::Text),
    field("spanid", 27, Kind::Text),
    field("tracesampled", 30, Kind::Flag),
    field("sourcelocation", 23, Kind::Message(SOURCE_LOCATION)),
    field("split", 35, Kind::Message(SPLIT)),
    field("protopayload", 2, Kind::Opaque),
    field("textpayload", 3, Kind::Text),
    field("jsonpayload", 6, Kind::Struct),
];

static RESOURCE: &[Field] = &[field("type", 1, Kind::Text), field("labels", 2, Kind::Map)];

static HTTP_REQUEST: &[Field] = &[
    field("requestmethod", 1, Kind::Text),
    field("requesturl", 2, Kind::Text),
    field("requestsize", 3, Kind::Int),
    field("status", 4, Kind::Int),
    field("responsesize", 5, Kind::Int),
    field("useragent", 6, Kind::Text),
    field("remoteip", 7, Kind::Text),
    field("serverip", 13, Kind::Text),
    field("referer", 8, Kind::Text),
    field("latency", 14, Kind::Duration),
    field("cachelookup", 11, Kind::Flag),
    field("cachehit", 9, Kind::Flag),
    field("cachevalidatedwithoriginserver", 10, Kind::Flag),
    field("cachefillbytes", 12, Kind::Int),
    field("protocol", 15, Kind::Text),
];

static OPERATION: &[Field] = &[
    field("id", 1, Kind::Text),
    field("producer", 2, Kind::Text),
    field("first", 3, Kind::Flag),
    field("last", 4, Kind::Flag),
];

static SOURCE_LOCATION: &[Field] =
    &[field("file", 1, Kind::Text), field("line", 2, Kind::Int), field("function", 3, Kind::Text)];

static SPLIT: &[Field] =
    &[field("uid", 1, Kind::Text), field("index", 2, Kind::Int), field("totalsplits", 3, Kind::Int)];

/// One step from a message to a value in it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A field by its number.
    Number(u32),
    /// The value of a label.
    Label(String),
    /// A member of a JSON object.
    Member(String),
}

/// What stands at the end of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaf {
    /// When it happened.
    Timestamp,
    /// When it arrived.
    Received,
    /// How bad it is.
    Severity,
    /// Any other declared field.
    Declared(Kind),
    /// A label's text: it may be missing.
    Label,
    /// A JSON value, of whatever type the entry gives it: it may be missing.
    Json,
    /// Something within a payload that is not understood: always missing.
    Unknown,
}

/// A way to a value.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) steps: Vec<Step>,
    pub(crate) leaf: Leaf,
}

/// Finds what a dotted name means; `None` when entries have no such field.
pub(crate) fn resolve(names: &[String]) -> Option<Path> {
    let (first, rest) = names.split_first()?;
    let head = match plain(first).as_str() {
        "timestamp" => Some(Leaf::Timestamp),
        "receivetimestamp" => Some(Leaf::Received),
        "severity" => Some(Leaf::Severity),
        _ => None,
    };
    if let Some(leaf) = head {
        return rest.is_empty().then_some(Path { steps: Vec::new(), leaf });
    }
    declared(names)
}

fn declared(names: &[String]) -> Option<Path> {
    let mut steps = Vec::new();
    let mut kind = Kind::Message(ENTRY);
    let mut names = names.iter();
    while let Some(name) = names.next() {
        match kind {
            Kind::Message(fields) => {
                let name = plain(name);
                let field = fields.iter().find(|field| field.name == name)?;
                steps.push(Step::Number(field.number));
                kind = field.kind;
            }
            // A label's key may hold dots without being quoted.
            Kind::Map => {
                let rest: Vec<&str> = std::iter::once(name).chain(names).map(String::as_str).collect();
                steps.push(Step::Label(rest.join(".")));
                return Some(Path { steps, leaf: Leaf::Label });
            }
            Kind::Struct => {
                steps.extend(std::iter::once(name).chain(names).cloned().map(Step::Member));
                return Some(Path { steps, leaf: Leaf::Json });
            }
            Kind::Opaque => return Some(Path { steps, leaf: Leaf::Unknown }),
            Kind::Text | Kind::Int | Kind::Flag | Kind::Duration => return None,
        }
    }
    Some(Path { steps, leaf: Leaf::Declared(kind) })
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}
