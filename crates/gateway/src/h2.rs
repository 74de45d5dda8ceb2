//! HTTP/2: what gRPC runs on, and what REST clients choose where TLS offers it.
//!
//! The limits here are against clients that take much and give nothing: streams opened only to be reset, windows
//! without end, and connections whose other side is gone without a word. How calls are run is told in [`crate::turn`].

use std::{pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::{
    answer::answer,
    detect::Rewound,
    listen::{Conn, Io, drive},
    turn::{Calls, Turns},
};

/// How often a silent client is asked whether it is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(60);
const PONG: Duration = Duration::from_secs(20);

/// How much a client may send ahead on one stream, and on all of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Streams that a client may reset before we have looked at them (the rapid-reset attack, CVE-2023-44487), and that
/// we reset for its faults, before the connection is closed.
const RESETS: usize = 100;

pub(crate) async fn serve<I: Io>(conn: Conn, io: Rewound<I>) {
    let limits = &conn.shared.limits;
    let calls = Calls::default();
    let mut builder = http2::Builder::new(calls.clone());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS);
    let ending = conn.ending.clone();
    let conn = Arc::new(conn);
    let service = service_fn(move |request| answer(conn.clone(), request));
    let serving = pin!(Turns::new(builder.serve_connection(TokioIo::new(io), service), calls));
    drive(serving, ending, |serving| serving.get_mut().connection().graceful_shutdown()).await;
}
