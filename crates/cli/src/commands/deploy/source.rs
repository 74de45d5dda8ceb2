//! From a folder to an image: the folder goes to haar, which builds it, and tells as it goes.

use std::{
    io::{self, Write},
    path::Path,
};

use build::{Built, Event, Failure, Settings};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{google::Google, screen::Screen, wanted::Wanted};
use crate::{
    client,
    report::{Result, Trouble},
};

/// How much of the folder is read ahead of what haar has taken.
const AHEAD: usize = 16;
/// The size of a piece.
const PIECE: usize = 64 << 10;

/// What a build answers, a line at a time; see `server::builds`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Image(Built),
    Failure(Failure),
    Event(Event),
}

/// Builds the folder.
pub fn build(
    google: &Google<'_>,
    wanted: &Wanted,
    screen: &Screen,
    start: Option<String>,
    is_verbose: bool,
) -> Result<Built> {
    let step = screen.step("build");
    step.now("reading the folder");
    let what = format!("builds?name={}&project={}&region={}", wanted.name, google.project, wanted.region);
    let (pieces, body) = mpsc::channel(AHEAD);
    let packing = {
        let directory = wanted.directory.clone();
        let settings = Settings { start, ..Settings::of(shell()) };
        std::thread::spawn(move || pack(&directory, &settings, pieces))
    };
    let mut outcome = None;
    client::upload(google.running, &what, body, |line| match serde_json::from_slice(line) {
        Ok(Told::Event(Event::Line { step: name, text })) if is_verbose => screen.line(&name, &text),
        Ok(Told::Event(Event::Line { text, .. })) => step.now(&text),
        Ok(Told::Event(Event::Remark { remark })) => screen.line("note", &remark),
        Ok(Told::Image(built)) => outcome = Some(Ok(built)),
        Ok(Told::Failure(failure)) => outcome = Some(Err(failure)),
        Err(_) => {}
    })?;
    let packed = packing.join().unwrap_or_else(|_| Err(io::Error::other("it cannot be read")));
    match outcome {
        Some(Ok(built)) => {
            step.done(&in_words(&built));
            Ok(built)
        }
        Some(Err(failure)) => {
            screen.quote(&failure.log);
            let trouble = Trouble::new(failure.error);
            Err(failure.next.into_iter().fold(trouble, Trouble::next))
        }
        None => Err(match packed {
            Err(error) => Trouble::new(format!("cannot read {}: {error}", wanted.directory.display())),
            Ok(()) => {
                Trouble::new("haar ended while it was building").next("look at haar status, and try again")
            }
        }),
    }
}

fn in_words(built: &Built) -> String {
    let what = match &built.framework {
        Some(framework) => format!("{framework} on {}", built.language),
        None => built.language.clone(),
    };
    let how = if built.cached { "dependencies as before" } else { "dependencies installed" };
    format!("{what}, {how}")
}

/// The variables of the person's shell; one that is no text is none that a build would need.
fn shell() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn pack(directory: &Path, settings: &Settings, pieces: mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut writer = io::BufWriter::with_capacity(PIECE, Pieces(pieces));
    match build::source::pack(directory, settings, &mut writer).and_then(|_| writer.flush()) {
        // haar has answered before it had read everything, and said why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A writer whose bytes become the body of a request.
struct Pieces(mpsc::Sender<Bytes>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
