//! Turns a discovery document into a descriptor of ours, so that what has no proto takes the same road as what has.
//!
//! The package is `google.discovery.NAME.VERSION`. A schema becomes a message and an object written in place a
//! nested one; only what the wanted methods reach is kept. A resource becomes a service, named by its path
//! (`namespaces.services` is `NamespacesServices`; where a schema has that name already, `Service` is appended), and each of its methods takes a message that holds the path and query
//! parameters and, where there is one, the body in a field called `body`.
//!
//! Fields are numbered in the alphabetical order of their JSON keys: a pinned document gives the same numbers for
//! ever, and the numbers never leave the process, for no client speaks protobuf here. Scalars are optional, so
//! that a zero somebody wrote is not lost; path parameters are always there and are not.
//! Enums stay strings, and so do dates, durations and field masks, as the documents have them.
//! Media uploads and downloads, defaults and patterns of query parameters are left out.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MessageOptions, OneofDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    Result,
    names::{pascal, snake},
    rest::{self, FileServices, MethodProto, ServiceProto},
    tables::Descriptor,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    name: String,
    version: String,
    root_url: String,
    #[serde(default)]
    service_path: String,
    /// What every method takes (`alt`, `fields`, `key` and so on).
    #[serde(default)]
    parameters: BTreeMap<String, IgnoredAny>,
    #[serde(default)]
    schemas: BTreeMap<String, Schema>,
    #[serde(flatten)]
    root: Resource,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    methods: BTreeMap<String, Method>,
    #[serde(default)]
    resources: BTreeMap<String, Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Method {
    http_method: String,
    path: String,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    request: Option<Reference>,
    response: Option<Reference>,
}

#[derive(Deserialize)]
struct Parameter {
    location: Location,
    pattern: Option<String>,
    #[serde(default)]
    repeated: bool,
    #[serde(flatten)]
    schema: Schema,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Location {
    Path,
    Query,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "$ref")]
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Schema {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    r#type: Option<String>,
    format: Option<String>,
    #[serde(default)]
    properties: BTreeMap<String, Schema>,
    additional_properties: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
}

/// The descriptor of a document: all of it, or only the resources named.
pub(crate) fn describe(text: &str, only: &[&str]) -> Result<Descriptor> {
    let document: Document = serde_json::from_str(text)?;
    let package = format!("google.discovery.{}.{}", document.name, document.version);
    let mut maker =
        Maker { package: &package, document: &document, wanted: BTreeSet::new(), file: Vec::new() };
    let mut services = Vec::new();
    maker.resource("", &document.root, only, &mut services)?;
    maker.schemas()?;
    let name = format!("google/discovery/{}/{}.proto", document.name, document.version);
    let file = FileDescriptorProto {
        name: Some(name.clone()),
        package: Some(package.clone()),
        syntax: Some("proto3".into()),
        dependency: rest::IMPORTS.iter().map(|import| (*import).to_owned()).collect(),
        message_type: maker.file,
        ..Default::default()
    };
    let mut bytes = file.encode_to_vec();
    FileServices { services }.encode(&mut bytes)?;
    Ok(Descriptor { name, bytes })
}

impl Document {
    /// Whether every method takes this parameter, and the gateway handles it; one document writes `userip`.
    fn is_common(&self, parameter: &str) -> bool {
        self.parameters.keys().any(|common| common.eq_ignore_ascii_case(parameter))
    }
}

struct Maker<'a> {
    package: &'a str,
    document: &'a Document,
    /// Schemas that something refers to.
    wanted: BTreeSet<&'a str>,
    file: Vec<DescriptorProto>,
}

impl<'a> Maker<'a> {
    fn resource(
        &mut self,
        path: &str,
        resource: &'a Resource,
        only: &[&str],
        services: &mut Vec<ServiceProto>,
    ) -> Result<()> {
        if !resource.methods.is_empty() && (only.is_empty() || only.contains(&path)) {
            services.push(self.service(path, &resource.methods)?);
        }
        for (name, inner) in &resource.resources {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.resource(&path, inner, only, services)?;
        }
        Ok(())
    }

    fn service(&mut self, path: &str, methods: &'a BTreeMap<String, Method>) -> Result<ServiceProto> {
        let mut name = pascal(if path.is_empty() { &self.document.name } else { path });
        if self.document.schemas.contains_key(&name) {
            name.push_str("Service");
        }
        let host = self.document.root_url.trim_start_matches("https://").trim_end_matches('/');
        let methods = methods.iter().map(|(method, about)| self.method(&name, &pascal(method), about));
        let methods = methods.collect::<Result<_>>()?;
        Ok(ServiceProto::new(name, methods, host))
    }

    fn method(&mut self, service: &str, name: &str, method: &'a Method) -> Result<MethodProto> {
        let request = self.request(format!("{service}{name}Request"), method)?;
        let input = self.local(request.name());
        self.file.push(request);
        let output = match &method.response {
            Some(reference) => self.refer(&reference.name),
            None => ".google.protobuf.Empty".to_owned(),
        };
        let path = format!("/{}{}", self.document.service_path, method.path);
        let patterns =
            method.parameters.iter().map(|(name, about)| (name.as_str(), about.pattern.as_deref()));
        let template = rest::template(&path, &patterns.collect())?;
        let body = if method.request.is_some() { "body" } else { "" };
        MethodProto::new(name, input, output, rest::rule(&method.http_method, template, body)?)
    }

    /// The message that a method takes.
    fn request(&mut self, name: String, method: &'a Method) -> Result<DescriptorProto> {
        let mut message = Building::new(self.local(&name), name);
        for (key, parameter) in method.parameters.iter().filter(|(key, _)| !self.document.is_common(key)) {
            self.parameter(&mut message, key, parameter)?;
        }
        if let Some(reference) = &method.request {
            let value = Value::Message(self.refer(&reference.name));
            message.field("body", value, Presence::Implicit)?;
        }
        Ok(message.done)
    }

    /// Adds a parameter; `options.requestedPolicyVersion` becomes a field of a nested message `Options`.
    fn parameter(&mut self, message: &mut Building, key: &str, parameter: &'a Parameter) -> Result<()> {
        let presence = match (parameter.location, parameter.repeated) {
            (_, true) => Presence::Repeated,
            (Location::Path, false) => Presence::Implicit,
            (Location::Query, false) => Presence::Explicit,
        };
        if let Some((outer, inner)) = key.split_once('.') {
            let mut nested = message.take_nested(outer)?;
            let (value, _) = self.value(&mut nested, inner, &parameter.schema)?;
            nested.field(inner, value, presence)?;
            message.done.nested_type.push(nested.done);
            return Ok(());
        }
        let (value, _) = self.value(message, key, &parameter.schema)?;
        message.field(key, value, presence)
    }

    /// Makes the schemas that are referred to, and those they refer to.
    fn schemas(&mut self) -> Result<()> {
        let mut made = BTreeSet::new();
        while let Some(name) = self.wanted.iter().find(|name| !made.contains(*name)).copied() {
            made.insert(name);
            let schema = self.document.schemas.get(name).ok_or_else(|| format!("no schema {name}"))?;
            let mut message = Building::new(self.local(&pascal(name)), pascal(name));
            self.properties(&mut message, schema)?;
            self.file.push(message.done);
        }
        self.file.sort_by(|one, other| one.name.cmp(&other.name));
        match self.file.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(format!("two messages are called {}", pair[0].name()).into()),
            None => Ok(()),
        }
    }

    fn properties(&mut self, message: &mut Building, schema: &'a Schema) -> Result<()> {
        for (key, property) in &schema.properties {
            let (value, presence) = self.value(message, key, property)?;
            message.field(key, value, presence)?;
        }
        Ok(())
    }

    /// What a property holds; objects written in place become messages nested in the one that has it.
    fn value(&mut self, message: &mut Building, key: &str, schema: &'a Schema) -> Result<(Value, Presence)> {
        if let Some(name) = &schema.reference {
            return Ok((Value::Message(self.refer(name)), Presence::Implicit));
        }
        let value = match (schema.r#type.as_deref(), schema.format.as_deref()) {
            (Some("array"), _) => {
                let items = schema.items.as_deref().ok_or("an array of nothing")?;
                let (item, Presence::Implicit | Presence::Explicit) = self.value(message, key, items)? else {
                    return Err(format!("{key}: an array of arrays or maps").into());
                };
                return Ok((item, Presence::Repeated));
            }
            (Some("object"), _) => return self.object(message, key, schema),
            (Some("any"), _) => Value::Message(".google.protobuf.Value".into()),
            (Some("boolean"), _) => Value::Scalar(Type::Bool),
            (Some("integer"), Some("int32")) => Value::Scalar(Type::Int32),
            (Some("integer"), Some("uint32")) => Value::Scalar(Type::Uint32),
            (Some("number"), Some("float")) => Value::Scalar(Type::Float),
            (Some("number"), Some("double") | None) => Value::Scalar(Type::Double),
            (Some("string"), Some("int64")) => Value::Scalar(Type::Int64),
            (Some("string"), Some("uint64")) => Value::Scalar(Type::Uint64),
            (Some("string"), Some("byte")) => Value::Scalar(Type::Bytes),
            (Some("string"), _) => Value::Scalar(Type::String),
            (other, format) => return Err(format!("{key}: unknown type {other:?} {format:?}").into()),
        };
        let presence =
            if matches!(value, Value::Message(_)) { Presence::Implicit } else { Presence::Explicit };
        Ok((value, presence))
    }

    fn object(&mut self, message: &mut Building, key: &str, schema: &'a Schema) -> Result<(Value, Presence)> {
        let Some(values) = &schema.additional_properties else {
            if schema.properties.is_empty() {
                return Ok((Value::Message(".google.protobuf.Struct".into()), Presence::Implicit));
            }
            let mut nested = message.nested(key);
            self.properties(&mut nested, schema)?;
            let value = Value::Message(nested.path.clone());
            message.done.nested_type.push(nested.done);
            return Ok((value, Presence::Implicit));
        };
        if values.r#type.as_deref() == Some("any") {
            return Ok((Value::Message(".google.protobuf.Struct".into()), Presence::Implicit));
        }
        let (value, _) = self.value(message, key, values)?;
        Ok((Value::Message(message.map(key, value)), Presence::Repeated))
    }

    /// The full name of a schema's message, which is then made too.
    fn refer(&mut self, name: &'a str) -> String {
        self.wanted.insert(name);
        self.local(&pascal(name))
    }

    fn local(&self, message: &str) -> String {
        format!(".{}.{message}", self.package)
    }
}

enum Value {
    Scalar(Type),
    Message(String),
}

enum Presence {
    Implicit,
    Explicit,
    Repeated,
}

/// A message under construction; its fields are added in the order of their keys.
struct Building {
    path: String,
    done: DescriptorProto,
}

impl Building {
    fn new(path: String, name: String) -> Self {
        Building { path, done: DescriptorProto { name: Some(name), ..Default::default() } }
    }

    fn nested(&self, key: &str) -> Self {
        Building::new(format!("{}.{}", self.path, pascal(key)), pascal(key))
    }

    /// Takes out the nested message that holds the parameters with this key before their dot, for another one to be
    /// added; the first of them makes it, and the field that has it.
    fn take_nested(&mut self, key: &str) -> Result<Building> {
        let mut nested = self.nested(key);
        let name = pascal(key);
        match self.done.nested_type.iter().position(|other| other.name() == name) {
            Some(at) => nested.done = self.done.nested_type.remove(at),
            None => self.field(key, Value::Message(nested.path.clone()), Presence::Implicit)?,
        }
        Ok(nested)
    }

    /// Nests the entry message of a map and gives its name.
    fn map(&mut self, key: &str, value: Value) -> String {
        let mut entry = self.nested(&format!("{key}.entry"));
        let string = plain("key", 1, Value::Scalar(Type::String), Label::Optional);
        entry.done.field = vec![string, plain("value", 2, value, Label::Optional)];
        entry.done.options = Some(MessageOptions { map_entry: Some(true), ..Default::default() });
        self.done.nested_type.push(entry.done);
        entry.path
    }

    fn field(&mut self, key: &str, value: Value, presence: Presence) -> Result<()> {
        let name = snake(key);
        if self.done.field.iter().any(|field| field.name() == name) {
            return Err(format!("{}: two fields are called {name}", self.path).into());
        }
        let label = if matches!(presence, Presence::Repeated) { Label::Repeated } else { Label::Optional };
        let mut field = plain(&name, self.done.field.len() as i32 + 1, value, label);
        field.json_name = Some(key.to_owned());
        if matches!(presence, Presence::Explicit) {
            field.proto3_optional = Some(true);
            field.oneof_index = Some(self.done.oneof_decl.len() as i32);
            let oneof = OneofDescriptorProto { name: Some(format!("_{name}")), options: None };
            self.done.oneof_decl.push(oneof);
        }
        self.done.field.push(field);
        Ok(())
    }
}

fn plain(name: &str, number: i32, value: Value, label: Label) -> FieldDescriptorProto {
    let (kind, type_name) = match value {
        Value::Scalar(kind) => (kind, None),
        Value::Message(name) => (Type::Message, Some(name)),
    };
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name,
        json_name: Some(name.to_owned()),
        ..Default::default()
    }
}
