//! A call in JSON: taken apart by the route table, made as bytes, answered as JSON.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::{
    listen::Conn,
    site::{Body, text},
};

pub(crate) async fn answer(_conn: &Conn, _request: Request<Incoming>) -> Response<Body> {
    let _ = Bytes::new();
    text(StatusCode::NOT_FOUND, "Not Found\n")
}
