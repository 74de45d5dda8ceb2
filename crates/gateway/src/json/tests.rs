//! The codec against another one, against nonsense, and word by word.

mod forms;
mod masks;
mod random;
mod reference;
mod words;

use apis::schema::Message;

use super::{Limits, Options, Problems, decode, encode, text::Layout};

const SERVICE: &str = "google.cloud.run.v2.Service";
const CREATE_SECRET: &str = "google.cloud.secretmanager.v1.CreateSecretRequest";

fn message(name: &str) -> Message {
    Message::by_name(name).unwrap_or_else(|| panic!("no table of {name}"))
}

fn read(name: &str, json: &str) -> Result<Vec<u8>, Problems> {
    decode(message(name), json.as_bytes(), Limits::default())
}

/// The lines of the error that a text is refused with.
fn refused(name: &str, json: &str) -> String {
    match read(name, json) {
        Ok(_) => panic!("taken: {json}"),
        Err(problems) => problems.into_error().message().to_owned(),
    }
}

fn write(name: &str, bytes: &[u8], options: &Options<'_>) -> String {
    let mut out = Vec::new();
    encode(message(name), bytes, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What comes back of a text once it has been a message.
fn again(name: &str, json: &str) -> String {
    let bytes = read(name, json).unwrap_or_else(|problems| panic!("{:?}", problems));
    write(name, &bytes, &Options { layout: Layout::Compact, ..Options::default() })
}
