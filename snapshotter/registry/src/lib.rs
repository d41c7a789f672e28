//! OCI distribution client: pull, push, authenticate.
//!
//! Reading order: [`names`](Repository) and [`Digest`] (values), [`Hosts`] (who is asked),
//! [`Credentials`] (who asks), [`Limits`] and [`Observer`] (how long, how often, who is told),
//! `transport.rs` (one exchange), `auth.rs` (challenge to token), `client.rs` (the way of every
//! request), then what can be asked: `pull.rs`, `blob_stream.rs`, `foreign.rs`, `range.rs`,
//! `push.rs`; `web.rs` is about files that are no part of an image.
//!
//! Bytes that a registry sends are believed only once their digest is right. Nothing here reads the
//! environment. What is absent on purpose:
//! parsing image references, and what is inside of a manifest.

mod digest;
mod names;

mod error;

mod credentials;
mod hosts;
mod proxies;
mod retry;
mod tags;

mod answer;
mod challenge;
mod transport;

mod auth;
mod client;

mod blob_stream;
mod body;
mod foreign;
mod login;
mod pull;
mod push;
mod range;
mod web;

pub use blob_stream::BlobStream;
pub use body::{BlobBody, BodyReader, FileBody};
pub use client::{Client, ClientBuilder};
pub use credentials::{
    Anonymous, Credential, Credentials, DockerConfig, LoginFile, LoneLogin, Token, TokenRequest,
    registry_of,
};
pub use digest::Digest;
pub use error::{Answer, Error, Result, Subject, Thing, TlsCause};
pub use hosts::{Hosts, KeyPair, RegistrySettings};
pub use names::{ManifestReference, Repository, Tag};
pub use proxies::Proxies;
pub use pull::{Manifest, MediaType, Resolved};
pub use push::{Pushed, UploadOptions};
pub use range::{RANGE_BYTES_MAX, RangeReader};
pub use retry::{Limits, Next, Observer, Retry, Unobserved};
pub use web::{WebAnswer, WebFile, WebRequest};
