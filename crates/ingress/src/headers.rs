//! Headers that are only for one connection (RFC 9110, section 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};

const HOPS: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether a header is between two neighbours only.
pub(crate) fn is_hop(name: &HeaderName) -> bool {
    HOPS.contains(name)
}

/// The comma-separated words of a header's value.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

/// Removes the headers that `Connection` names.
pub(crate) fn remove_named(map: &mut HeaderMap) {
    for name in named(map) {
        map.remove(name);
    }
    map.remove(header::CONNECTION);
}

/// Removes all headers of the connection.
pub(crate) fn remove_hops(map: &mut HeaderMap) {
    for name in &HOPS {
        map.remove(name);
    }
}

/// The headers that `Connection` names, apart from those that are of the connection anyway and those that
/// nobody may have removed by naming them.
pub(crate) fn named(map: &HeaderMap) -> Vec<HeaderName> {
    const KEPT: [HeaderName; 4] =
        [header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH, header::CONTENT_TYPE];
    let words = map.get_all(header::CONNECTION).iter().flat_map(tokens);
    let names = words.filter(|word| {
        !["close", "keep-alive", "upgrade", ""].iter().any(|known| word.eq_ignore_ascii_case(known))
    });
    names
        .filter_map(|word| HeaderName::from_bytes(word.as_bytes()).ok())
        .filter(|n| !KEPT.contains(n))
        .collect()
}

/// Whether a field may stand in a trailer section. Those that frame, route, authenticate or describe what came before
/// may not (RFC 9110, 6.5.1): a server that merges trailers into the headers would believe them.
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    const HEAD_ONLY: [HeaderName; 15] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::FORWARDED,
        header::HOST,
        header::MAX_FORWARDS,
        header::RANGE,
        header::SET_COOKIE,
        header::TRAILER,
        HeaderName::from_static("x-serverless-authorization"),
    ];
    !is_hop(name) && !HEAD_ONLY.contains(name) && !name.as_str().starts_with("x-forwarded-")
}

/// Removes from a trailer section what may not stand there.
pub(crate) fn keep_trailers(map: &mut HeaderMap) {
    let wrong: Vec<_> = map.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in wrong {
        map.remove(name);
    }
}

/// Whether a client asks to switch to the WebSocket protocol.
pub(crate) fn asks_for_websocket(map: &HeaderMap) -> bool {
    let is = |name, word: &str| {
        map.get_all(name).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(word))
    };
    map.contains_key(header::UPGRADE) && is(header::CONNECTION, "upgrade") && is(header::UPGRADE, "websocket")
}
