//! Makes message types, and for each service a module of constants that tie its methods to them.

use std::{collections::BTreeSet, fmt::Write, fs, io, path::Path};

use prost_build::{Config, Method, Service, ServiceGenerator};
use prost_types::FileDescriptorSet;

use crate::schema::MethodRows;

/// Messages that may carry passwords, keys or tokens: their `Debug` shows the name alone, so that no log line and no
/// failed assertion can show more. For Cloud SQL, half of all types, it also saves a fifth of the build.
const OPAQUE: &[&str] = &[
    ".google.cloud.secretmanager.v1.SecretPayload",
    ".google.cloud.sql.v1",
    ".google.cloud.sql.v1beta4",
    ".google.discovery.oauth2.v2",
    ".google.discovery.storage.v1.HmacKey",
    ".google.discovery.sts.v1",
    ".google.iam.admin.v1.ServiceAccountKey",
    ".google.iam.admin.v1.SignJwtResponse",
    ".google.iam.credentials.v1.GenerateAccessTokenResponse",
    ".google.iam.credentials.v1.GenerateIdTokenResponse",
    ".google.iam.credentials.v1.SignJwtResponse",
];

/// Writes `types.rs` and what it includes. Maps are ordered, so that a message always encodes to the same bytes.
pub(crate) fn write(set: FileDescriptorSet, methods: MethodRows, out: &Path) -> io::Result<()> {
    let packages: BTreeSet<String> = set.file.iter().map(|file| file.package().to_owned()).collect();
    Config::new()
        .btree_map(["."])
        .bytes(["."])
        .skip_debug(OPAQUE)
        .service_generator(Box::new(Constants(methods)))
        .include_file("types.rs")
        .out_dir(out)
        .compile_fds(set)?;
    for package in packages.iter().filter(|package| OPAQUE.iter().any(|path| path.contains(package.as_str())))
    {
        let path = out.join(format!("{package}.rs"));
        fs::write(&path, with_debug(&fs::read_to_string(&path)?))?;
    }
    Ok(())
}

/// Gives those types a `Debug` that the generator left without one. An enum has nothing to hide.
fn with_debug(code: &str) -> String {
    let mut done = String::new();
    let mut lines = code.lines().peekable();
    while let Some(line) = lines.next() {
        if line.contains("::prost::Enumeration)") && !line.contains("Debug") {
            done += &line.replacen("Copy, ", "Copy, Debug, ", 1);
        } else {
            done += line;
        }
        done.push('\n');
        if line.trim_start() == "#[prost(skip_debug)]"
            && let Some(name) = lines.peek().and_then(|line| type_name(line))
        {
            // Between attributes and the type there is no room for another item: it goes before the derive.
            let derive = done.rfind("#[derive(").unwrap_or(0);
            done.insert_str(derive, &opaque(name));
        }
    }
    done
}

/// The name of the type that a line starts to define.
fn type_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "))?;
    rest.split([' ', '{']).next()
}

fn opaque(name: &str) -> String {
    let method = "fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result";
    format!("impl ::core::fmt::Debug for {name} {{ {method} {{ f.write_str(\"{name} {{ .. }}\") }} }}\n")
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
