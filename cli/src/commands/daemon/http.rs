//! What watches the daemon over HTTP: `/metrics` and `/healthz`. Nothing can be changed here.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use snapshotter::plugin::health;
use snapshotter::plugin::metrics::Metrics;

use super::OwnSocket;
use crate::args::observation::MetricsAddress;
use crate::error::say;

/// What a reader asks for that knows OpenMetrics, and what it then gets.
const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What everybody else gets.
const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A socket that nobody is answered on yet.
#[derive(Debug)]
pub(super) enum Http {
    Tcp(TcpListener),
    Unix(UnixListener, OwnSocket),
}

/// Takes the address.
///
/// # Errors
/// It is in use, or not ours to use.
pub(super) fn listen(address: &MetricsAddress) -> anyhow::Result<Http> {
    match address {
        MetricsAddress::Tcp(address) => {
            let listener = TcpListener::bind(address);
            let listener = listener.with_context(|| {
                format!("cannot listen on {address}; choose another --metrics-address")
            })?;
            Ok(Http::Tcp(listener))
        }
        MetricsAddress::Unix(path) => {
            let (listener, own) = super::bind(path, "--metrics-address")?;
            Ok(Http::Unix(listener, own))
        }
    }
}

impl Http {
    /// Answers as long as tokio runs.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(super) fn serve(self, metrics: Arc<Metrics>) -> anyhow::Result<()> {
        let router = Router::new()
            .route("/metrics", get(numbers))
            .route("/healthz", get(healthz))
            .with_state(metrics);
        let (address, serving) = match self {
            Http::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let address = format!("http://{}", listener.local_addr()?);
                let listener = tokio::net::TcpListener::from_std(listener)?;
                (
                    address,
                    tokio::spawn(axum::serve(listener, router).into_future()),
                )
            }
            Http::Unix(listener, own) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                let address = format!("unix://{}", own.0.display());
                let served = async move {
                    let _own = own;
                    axum::serve(listener, router).await
                };
                (address, tokio::spawn(served))
            }
        };
        // It ends with tokio.
        drop(serving);
        say(&format!("serving metrics on {address}"));
        Ok(())
    }
}

async fn numbers(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_open = accept.is_some_and(|accept| accept.contains(OPEN_METRICS));
    // Some of the numbers are asked of the file system.
    let text = tokio::task::spawn_blocking(move || match is_open {
        true => metrics.open_metrics(),
        false => metrics.text(),
    });
    let kind = if is_open {
        OPEN_METRICS_TYPE
    } else {
        TEXT_TYPE
    };
    match text.await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, kind)], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(metrics): State<Arc<Metrics>>) -> (StatusCode, String) {
    match health::check(metrics.containers()).await {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
