//! WebSockets: after both sides have switched protocols, bytes go both ways until one side ends, or the
//! request's timeout, which holds for WebSockets on Cloud Run as well.

use std::{io, time::Instant};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use crate::{Stream, exchange::Fault, flight::Flight};

/// An instance's side of a switched connection, with what it has said already.
pub(crate) struct Switched {
    pub(crate) stream: Stream,
    pub(crate) early: Bytes,
}

/// Joins the two sides in a task of their own.
pub(crate) fn join(client: OnUpgrade, instance: Switched, mut flight: Flight, deadline: Instant) {
    flight.detach();
    tokio::spawn(async move {
        match tokio::time::timeout_at(deadline.into(), carry(client, instance)).await {
            Ok(Ok((up, down))) => {
                flight.request_bytes = up;
                flight.response_bytes = down;
            }
            // One side was cut off: that is how most WebSockets end.
            Ok(Err(error)) => tracing::debug!(%error, "a WebSocket ended"),
            Err(_) => flight.cut(Fault::Timeout),
        }
        drop(flight);
    });
}

async fn carry(client: OnUpgrade, instance: Switched) -> io::Result<(u64, u64)> {
    let mut client = TokioIo::new(client.await.map_err(io::Error::other)?);
    let Switched { mut stream, early } = instance;
    client.write_all(&early).await?;
    let (up, down) = copy_bidirectional(&mut client, &mut stream).await?;
    Ok((up, down + early.len() as u64))
}
