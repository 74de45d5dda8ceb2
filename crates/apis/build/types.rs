//! Makes message types, and for each service a module of constants that tie its methods to them.

use std::{fmt::Write, io, path::Path};

use prost_build::{Config, Method, Service, ServiceGenerator};
use prost_types::FileDescriptorSet;

use crate::schema::MethodRows;

/// Writes `types.rs` and what it includes. Maps are ordered, so that a message always encodes to the same bytes.
pub(crate) fn write(set: FileDescriptorSet, methods: MethodRows, out: &Path) -> io::Result<()> {
    Config::new()
        .btree_map(["."])
        .bytes(["."])
        .service_generator(Box::new(Constants(methods)))
        .include_file("types.rs")
        .out_dir(out)
        .compile_fds(set)
}

struct Constants(MethodRows);

impl ServiceGenerator for Constants {
    fn generate(&mut self, service: Service, code: &mut String) {
        let full_name = format!("{}.{}", service.package, service.proto_name);
        let module = snake(&service.name);
        let _ = writeln!(code, "/// The methods of `{full_name}`.\npub mod {module} {{");
        for method in &service.methods {
            let row = self.0[&(full_name.clone(), method.proto_name.clone())];
            self.constant(&full_name, method, row, code);
        }
        code.push_str("}\n");
    }
}

impl Constants {
    fn constant(&self, service: &str, method: &Method, row: u16, code: &mut String) {
        let name = method.name.to_ascii_uppercase();
        let name = name.trim_start_matches("R#");
        let types = format!("{}, {}", from_inside(&method.input_type), from_inside(&method.output_type));
        let _ = writeln!(code, "/// `{service}.{}`.", method.proto_name);
        let _ = writeln!(code, "pub const {name}: crate::Rpc<{types}> = crate::Rpc::new({row});");
    }
}

/// A type's path from within a module of the one it was meant for.
fn from_inside(path: &str) -> String {
    if path == "()" || path.starts_with("::") { path.to_owned() } else { format!("super::{path}") }
}

fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut module = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let starts = letter.is_ascii_uppercase()
            && at > 0
            && (!letters[at - 1].is_ascii_uppercase()
                || letters.get(at + 1).is_some_and(char::is_ascii_lowercase));
        if starts {
            module.push('_');
        }
        module.push(letter.to_ascii_lowercase());
    }
    module
}
