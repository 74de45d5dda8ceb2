//! The interface tables at run time: messages, enums, methods and their HTTP bindings, read straight from
//! constant data. Nothing is decoded at start and nothing is allocated.
//
// The shape below is the contract between this crate, the JSON codec and the router. Bodies are filled in by the
// crate's author; signatures may grow.

// pub struct Message(u32);            // Copy handles
// impl Message {
//     pub fn by_name(full_name: &str) -> Option<Message>;
//     pub fn full_name(self) -> &'static str;                  // "google.cloud.secretmanager.v1.Secret"
//     pub fn well_known(self) -> Option<WellKnown>;            // Timestamp, Duration, FieldMask, Struct, Value, ListValue, Any, Empty, wrappers, HttpBody
//     pub fn fields(self) -> impl ExactSizeIterator<Item = Field>;   // in field-number order
//     pub fn field(self, number: u32) -> Option<Field>;        // fast
//     pub fn field_by_json(self, name: &str) -> Option<Field>; // lowerCamelCase json name or the proto name; fast
// }
// pub struct Field(u32);
// impl Field {
//     pub fn number(self) -> u32;
//     pub fn name(self) -> &'static str;        // snake_case proto name
//     pub fn json_name(self) -> &'static str;
//     pub fn kind(self) -> Kind;                // the element kind for repeated fields
//     pub fn cardinality(self) -> Cardinality;  // Single, Optional (explicit presence), Repeated, Map
//     pub fn packed(self) -> bool;
//     pub fn map_entry(self) -> Option<(Field, Field)>;  // key and value fields of a map
//     pub fn oneof(self) -> Option<u16>;        // index of the real oneof it belongs to in its message
// }
// pub enum Kind { Double, Float, Int64, Uint64, Int32, Fixed64, Fixed32, Bool, String, Bytes, Uint32, Sfixed32, Sfixed64, Sint32, Sint64, Message(Message), Enum(Enum) }
// pub struct Enum(u32);
// impl Enum { pub fn full_name; pub fn number(self, name: &str) -> Option<i32>; pub fn name(self, number: i32) -> Option<&'static str>; pub fn values() }
// pub struct MethodId(u16);
// impl MethodId {
//     pub fn all() -> impl Iterator<Item = MethodId>;
//     pub fn grpc_path(self) -> &'static str;   // "/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion"; empty where only REST exists (discovery)
//     pub fn name(self) -> &'static str;        // "google.cloud.secretmanager.v1.SecretManagerService.AccessSecretVersion"
//     pub fn host(self) -> &'static str;        // "secretmanager.googleapis.com"
//     pub fn input(self) -> Message; pub fn output(self) -> Message;
//     pub fn client_streaming(self) -> bool; pub fn server_streaming(self) -> bool;
//     pub fn bindings(self) -> impl Iterator<Item = HttpBinding>;  // the main one first, then additional_bindings
// }
// pub struct HttpBinding { pub verb: &'static str /* "GET".. */, pub template: &'static str /* "/v1/{name=projects/*/secrets/*}" */, pub body: &'static str /* "", "*", or a field */, pub response_body: &'static str }
// pub struct Rpc<Q, S>(MethodId, PhantomData<fn(Q) -> S>);  // const-constructible, Copy; Rpc::id()
use std::marker::PhantomData;

/// A method of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(u16);

/// A method together with its request and response types.
pub struct Rpc<Q, S>(MethodId, PhantomData<fn(Q) -> S>);

impl<Q, S> Rpc<Q, S> {
    pub(crate) const fn new(id: u16) -> Self {
        Rpc(MethodId(id), PhantomData)
    }

    /// Which method it is.
    pub const fn id(self) -> MethodId {
        self.0
    }
}

impl<Q, S> Clone for Rpc<Q, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q, S> Copy for Rpc<Q, S> {}
