//! Several containers as one instance: they share a network and volumes, and none outlives another
//! (<https://cloud.google.com/run/docs/deploying#sidecars>).

use std::{io, sync::Arc, time::Duration};

use ingress::Stream;
use kernel::BoxFuture;
use tokio::sync::watch;

use crate::{
    fleet::GRACE,
    runtime::{Exit, Running},
};

/// The containers of an instance, of which the first to end ends all.
pub(crate) struct Together {
    /// The one that requests go to.
    ingress: Arc<dyn Running>,
    /// All of them, in the order in which they were started. The network is the first one's.
    all: Vec<Arc<dyn Running>>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Together {
    /// Watches over these from now on.
    pub(crate) fn of(ingress: Arc<dyn Running>, all: Vec<Arc<dyn Running>>) -> Arc<dyn Running> {
        let (tell, exit) = watch::channel(None);
        let ends: Vec<_> = all.iter().map(|one| one.ended()).collect();
        let stops: Vec<_> = all.iter().map(Arc::downgrade).collect();
        tokio::spawn(async move {
            let exit = first(ends).await;
            let others: Vec<_> = stops.iter().filter_map(std::sync::Weak::upgrade).collect();
            stop_all(&others, GRACE).await;
            tell.send_replace(Some(exit));
        });
        Arc::new(Together { ingress, all, exit })
    }
}

/// The first of these to end.
async fn first(mut ends: Vec<BoxFuture<'static, Exit>>) -> Exit {
    std::future::poll_fn(|context| {
        let ready = ends.iter_mut().find_map(|end| match end.as_mut().poll(context) {
            std::task::Poll::Ready(exit) => Some(exit),
            std::task::Poll::Pending => None,
        });
        ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

/// Stops them at once. The network is the first one's, so that one is waited for like the others.
async fn stop_all(all: &[Arc<dyn Running>], grace: Duration) {
    for one in all {
        one.thaw();
    }
    let mut stops = tokio::task::JoinSet::new();
    for one in all {
        let one = one.clone();
        stops.spawn(async move { one.stop(grace).await });
    }
    while stops.join_next().await.is_some() {}
}

impl Running for Together {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Stream>> {
        self.ingress.connect(port)
    }

    fn ended(&self) -> BoxFuture<'static, Exit> {
        Exit::told(self.exit.clone())
    }

    fn freeze(&self) {
        self.all.iter().for_each(|one| one.freeze());
    }

    fn thaw(&self) {
        self.all.iter().for_each(|one| one.thaw());
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'static, ()> {
        let (all, ended) = (self.all.clone(), self.ended());
        Box::pin(async move {
            stop_all(&all, grace).await;
            ended.await;
        })
    }

    fn cpu_time(&self) -> Option<Duration> {
        self.all.iter().map(|one| one.cpu_time()).sum()
    }
}
