//! Takes apart a chunked body from an instance, strictly: sizes in hexadecimal, `\r\n` everywhere, short
//! extensions, trailers within a limit. Data is sliced, never copied.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

/// How long the extensions of one chunk may be, in bytes.
const MAX_EXTENSION: usize = 1024;
/// How long all trailers together may be, in bytes.
const MAX_TRAILERS: usize = 16 << 10;
const MAX_TRAILER_COUNT: usize = 64;

/// The body is not in chunked form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A part of a body.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    Data(Bytes),
    /// The end, with trailers if there were any.
    End(Option<HeaderMap>),
}

#[derive(Debug)]
pub(crate) struct Decoder(State);

#[derive(Debug)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64, length: usize },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers(Vec<u8>),
}

const START: State = State::Size { value: 0, digits: 0 };

impl Decoder {
    pub(crate) fn new() -> Self {
        Decoder(START)
    }

    /// The next piece of `input`, which is consumed as far as it was used; `None` when more is needed.
    pub(crate) fn decode(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        while input.has_remaining() {
            if let State::Data { left } = &mut self.0 {
                let data = input.split_to(input.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                *left -= data.len() as u64;
                if *left == 0 {
                    self.0 = State::DataCr;
                }
                return Ok(Some(Piece::Data(data)));
            }
            if let Some(end) = self.step(input.get_u8())? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<Option<Piece>, Malformed> {
        let state = std::mem::replace(&mut self.0, START);
        self.0 = match (state, byte) {
            (State::Size { digits, value }, b'\r') if digits > 0 => State::SizeLf { value },
            (State::Size { digits, value }, b';' | b' ' | b'\t') if digits > 0 => {
                State::Extension { value, length: 0 }
            }
            (State::Size { digits, value }, _) => digit(value, digits, byte)?,
            (State::Extension { value, .. }, b'\r') => State::SizeLf { value },
            (State::Extension { value, length }, _) if byte != b'\n' && length < MAX_EXTENSION => {
                State::Extension { value, length: length + 1 }
            }
            (State::SizeLf { value: 0 }, b'\n') => State::Trailers(Vec::new()),
            (State::SizeLf { value }, b'\n') => State::Data { left: value },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => START,
            (State::Trailers(mut text), _) => {
                text.push(byte);
                if text == b"\r\n" {
                    return Ok(Some(Piece::End(None)));
                }
                if text.ends_with(b"\r\n\r\n") {
                    return Ok(Some(Piece::End(Some(trailers(&text)?))));
                }
                if text.len() >= MAX_TRAILERS {
                    return Err(Malformed);
                }
                State::Trailers(text)
            }
            _ => return Err(Malformed),
        };
        Ok(None)
    }
}

fn digit(value: u64, digits: u8, byte: u8) -> Result<State, Malformed> {
    let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
    // 15 digits are a thousand times more than anybody sends, and cannot overflow.
    if digits >= 15 {
        return Err(Malformed);
    }
    Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
}

fn trailers(text: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILER_COUNT];
    let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(text, &mut lines) else {
        return Err(Malformed);
    };
    let mut map = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
        map.append(name, HeaderValue::from_bytes(line.value).map_err(|_| Malformed)?);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(parts: &[&[u8]]) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Malformed> {
        let (mut decoder, mut body) = (Decoder::new(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let mut input = Bytes::copy_from_slice(part);
            while let Some(piece) = decoder.decode(&mut input)? {
                match piece {
                    Piece::Data(data) => body.extend_from_slice(&data),
                    Piece::End(trailers) => {
                        let rest = parts[index + 1..].iter().map(|p| p.len()).sum::<usize>();
                        return Ok((body, trailers, input.len() + rest));
                    }
                }
            }
        }
        Err(Malformed)
    }

    #[test]
    fn chunks_extensions_and_trailers_are_understood() {
        let text = b"5\r\nhello\r\n1;a=b\r\n \r\n00A\r\n0123456789\r\n0\r\nGrpc-Status: 0\r\n\r\nnext";
        let (body, trailers, rest) = all(&[text]).unwrap();
        assert_eq!(body, b"hello 0123456789");
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
        assert_eq!(rest, 4);
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let long = format!("1;{}\r\n", "x".repeat(2000));
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(100));
        for bad in
            ["\r\n", "x\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", "5\nhello", "1\r\nab\r\n", "1\r\na\n", "1\r\r"]
                .into_iter()
                .chain([
                    "fffffffffffffffff\r\n",
                    "0\r\n folded\r\n\r\n",
                    "0\r\nno colon\r\n\r\n",
                    &long,
                    &many,
                ])
        {
            let mut decoder = Decoder::new();
            let mut input = Bytes::copy_from_slice(bad.as_bytes());
            let mut outcome = decoder.decode(&mut input);
            while let Ok(Some(Piece::Data(_))) = outcome {
                outcome = decoder.decode(&mut input);
            }
            assert_eq!(outcome, Err(Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_how_bytes_arrive(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\nx: y\r\n\r\n");
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).collect();
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in cuts {
                parts.push(&text[from..cut]);
                from = cut;
            }
            parts.push(&text[from..]);
            let (body, trailers, rest) = all(&parts).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert!(trailers.is_some());
            prop_assert_eq!(rest, 0);
        }

        #[test]
        fn no_input_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&[&bytes]);
        }
    }
}
