//! From the parts of a request to the bytes of its message.
//!
//! Protobuf messages merge when their bytes are joined, and what comes later wins. So the body is written
//! first, then the query, then the path, each field in a small message of its own, and no part has to know
//! what another one set.

use apis::schema::{Cardinality, Field, Kind, Message, WellKnown};
use bytes::Bytes;
use kernel::Error;

use super::{
    query::{is_system, pairs},
    router::Match,
};
use crate::json::{
    self, Limits, Path, Problems, bind_text, kind_name, parse_duration, parse_timestamp, put_mask, put_parts,
    wire::put_bytes,
};

/// The request message of a call, from its path, query (without `?`) and body.
///
/// A body where the binding has none is ignored, as Google does with the empty objects that some clients send
/// with everything.
///
/// # Errors
/// `INVALID_ARGUMENT` that lists all that is wrong with body, query and path together.
pub fn decode_request(
    found: &Match<'_, '_>,
    query: &str,
    body: &[u8],
    limits: Limits,
) -> Result<Bytes, Error> {
    let input = found.id.input();
    let mut problems = Problems::default();
    let mut out = match body_bytes(input, found.binding.body, body, limits) {
        Ok(bytes) => bytes,
        Err(wrong) => {
            problems.append(wrong);
            Vec::new()
        }
    };
    for (name, value) in pairs(query).filter(|(name, _)| !is_system(name)) {
        bind_query(input, &name, &value, &mut out, &mut problems);
    }
    for capture in &found.captures {
        let Some(text) = capture.text() else {
            return Err(Error::invalid("Invalid resource field value in the request."));
        };
        match find(input, capture.field) {
            Ok(fields) => bind(&fields, capture.field, &text, &mut out, &mut problems),
            Err(name) => problems.name(&Path::ROOT, name, "Cannot find field."),
        }
    }
    if problems.is_empty() { Ok(out.into()) } else { Err(problems.into_error()) }
}

fn body_bytes(input: Message, rule: &str, body: &[u8], limits: Limits) -> Result<Vec<u8>, Problems> {
    if rule.is_empty() || body.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    match input.field_by_json(rule) {
        _ if rule == "*" => json::decode(input, body, limits),
        Some(field) => json::decode_field(field, body, limits, Vec::with_capacity(body.len() / 2 + 16)),
        None => Ok(Vec::new()),
    }
}

/// The fields on a path such as `secret.replication`; what is not found is the error.
fn find(input: Message, path: &str) -> Result<Vec<Field>, &str> {
    let mut fields = Vec::with_capacity(2);
    let mut inside = Some(input);
    for name in path.split('.') {
        let field = inside.and_then(|message| message.field_by_json(name)).ok_or(name)?;
        inside = match (field.cardinality(), field.kind()) {
            (Cardinality::Single | Cardinality::Optional, Kind::Message(message)) => Some(message),
            _ => None,
        };
        fields.push(field);
    }
    Ok(fields)
}

fn bind_query(input: Message, name: &str, value: &str, out: &mut Vec<u8>, problems: &mut Problems) {
    match find(input, name) {
        Ok(fields) if fields.last().is_some_and(|field| is_bindable(*field)) => {
            bind(&fields, name, value, out, problems);
        }
        Ok(_) => {
            let leaf = name.rsplit('.').next().unwrap_or(name);
            let why = format!(
                "Cannot bind query parameter. '{leaf}' is a message type. Parameters can only be bound to primitive types."
            );
            problems.name(&Path::ROOT, name, &why);
        }
        Err(part) => {
            let why =
                format!("Cannot bind query parameter. Field '{part}' could not be found in request message.");
            problems.name(&Path::ROOT, name, &why);
        }
    }
}

/// Whether a text can stand for a value of the field.
fn is_bindable(field: Field) -> bool {
    match field.kind() {
        Kind::Message(message) => matches!(
            message.well_known(),
            Some(WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask | WellKnown::Wrapper)
        ),
        _ => true,
    }
}

/// Appends a value to a field that may lie within others. `name` is how the caller wrote the path.
fn bind(fields: &[Field], name: &str, text: &str, out: &mut Vec<u8>, problems: &mut Problems) {
    let Some((field, outer)) = fields.split_last() else { return };
    let names: Vec<_> = fields.iter().map(|field| field.name()).collect();
    let path = names.join(".");
    let path = Path::ROOT.field(&path);
    if outer.is_empty() {
        return bind_leaf(*field, name, text, &path, out, problems);
    }
    let mut inner = Vec::with_capacity(text.len() + 8);
    bind_leaf(*field, name, text, &path, &mut inner, problems);
    for field in outer.iter().rev() {
        let mut around = Vec::with_capacity(inner.len() + 4);
        put_bytes(&mut around, field.number(), &inner);
        inner = around;
    }
    out.extend_from_slice(&inner);
}

fn bind_leaf(
    field: Field,
    name: &str,
    text: &str,
    path: &Path<'_>,
    out: &mut Vec<u8>,
    problems: &mut Problems,
) {
    let Kind::Message(message) = field.kind() else {
        return bind_text(field, text, path, out, problems);
    };
    let mut value = Vec::new();
    let read = match message.well_known() {
        Some(WellKnown::Timestamp) => parse_timestamp(text).map(|parts| put_parts(&mut value, parts)),
        Some(WellKnown::Duration) => parse_duration(text).map(|parts| put_parts(&mut value, parts)),
        Some(WellKnown::FieldMask) => {
            put_mask(&mut value, text);
            Ok(())
        }
        _ => {
            if let Some(inner) = message.field(1) {
                bind_text(inner, text, path, &mut value, problems);
            }
            Ok(())
        }
    };
    match read {
        Ok(()) => put_bytes(out, field.number(), &value),
        Err(what) => {
            let leaf = name.rsplit('.').next().unwrap_or(name);
            problems.value(path, &kind_name(field.kind()), &format!("Field '{leaf}', {what}"));
        }
    }
}
