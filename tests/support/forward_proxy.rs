//! A proxy as HTTP_PROXY and HTTPS_PROXY name one: whatever host it is asked for, it asks one
//! server of the test's.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The proxy. It ends with the process.
#[derive(Clone, Debug)]
pub struct ForwardProxy {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    /// Listens on a free port; everything goes to `server`.
    ///
    /// # Panics
    /// It cannot listen.
    #[must_use]
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = ForwardProxy {
            address: listener.local_addr().expect("an address").to_string(),
            requests: Arc::default(),
        };
        let (notes, server) = (proxy.requests.clone(), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (notes, server) = (notes.clone(), server.clone());
                // Either side may be gone before the other.
                thread::spawn(move || drop(serve(client, &server, &notes)));
            }
        });
        proxy
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it was asked: `GET http://r.example/v2/…` or `CONNECT r.example:443`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request, and then whatever comes: the connection is told to end with it.
fn serve(mut client: TcpStream, server: &str, notes: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.push(format!("{method} {target}"));
    drop(notes);
    let mut upstream = TcpStream::connect(server)?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // `http://host/path` is for proxies alone.
        let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        let head = head.replacen(target, path, 1);
        let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        upstream.write_all(head.as_bytes())?;
    }
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    io::copy(&mut upstream, &mut client)?;
    client.shutdown(Shutdown::Both)
}
