//! One small document by its address, over the same connections: the machine's proxy, its trusted certificates, and
//! the same refusals. Nothing is redirected: whoever names an address means it.

use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};

use super::{
    Failure, Registries,
    connect::{Connector, Origin},
};

impl Registries {
    /// The document at an address: `https://`, or `http://` on this machine.
    ///
    /// # Errors
    /// Why there is none: nobody answered, not with 200, or with more than `limit` bytes.
    pub async fn fetch(&self, url: &str, limit: usize) -> Result<Vec<u8>, String> {
        tokio::time::timeout(self.idle, self.get(url, limit))
            .await
            .map_err(|_| "it did not answer in time".to_owned())?
    }

    async fn get(&self, url: &str, limit: usize) -> Result<Vec<u8>, String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url} is not an address"))?;
        let origin = Origin::of(&uri).map_err(why)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = http::Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::HOST, origin.authority())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("haar/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let mut connection = Connector::new(self.clone()).open(&origin).await.map_err(why)?;
        let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("{} answered {}", origin.authority(), answer.status()));
        }
        let body = Limited::new(answer.into_body(), limit).collect().await;
        body.map(|body| body.to_bytes().to_vec())
            .map_err(|_| format!("{} answered too much", origin.authority()))
    }
}

fn why(failure: Failure) -> String {
    match failure {
        Failure::Unreachable(why) => why,
        _ => "there is no such document".into(),
    }
}
