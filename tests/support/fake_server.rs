//! A server that answers whatever a test wants, and breaks off where it wants.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As long as its length said.
    pub body: Vec<u8>,
}

impl Request {
    /// A header; its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// `GET /v2/…`
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// After the body.
    Whole,
    /// The connection is closed after so many bytes of the body.
    CutAfter(usize),
    /// Nothing more comes after so many bytes of the body.
    HangAfter(usize),
    /// Not even a status.
    Silence,
    /// The connection is closed without an answer.
    Closed,
    /// The body has no length and comes in pieces.
    Chunked,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// As 200.
    pub status: u16,
    /// Besides the length.
    pub headers: Vec<(String, String)>,
    /// All of it, though less may be sent.
    pub body: Vec<u8>,
    /// How it ends.
    pub end: End,
}

impl Response {
    /// One that is whole and has no headers.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response {
            status,
            headers: Vec::new(),
            body: body.into(),
            end: End::Whole,
        }
    }

    /// The same with one header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same with another end.
    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

/// A running server; it ends with the value.
#[derive(Debug)]
pub struct Fake {
    /// `127.0.0.1:PORT`
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Starts one that gives these answers. Needs a tokio runtime, and lives in it.
    ///
    /// # Panics
    /// It cannot listen.
    pub async fn start(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, notes) = (Arc::new(answer), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, notes) = (answer.clone(), notes.clone());
                tokio::spawn(async move {
                    // The other side may be gone; that is what some tests are about.
                    drop(serve(stream, &*answer, &notes).await);
                });
            }
        });
        Fake {
            address,
            seen,
            task,
        }
    }

    /// All requests so far.
    ///
    /// # Panics
    /// An answer has panicked.
    #[must_use]
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("no answer panicked").clone()
    }

    /// How many requests begin like this.
    #[must_use]
    pub fn count(&self, start: &str) -> usize {
        let seen = self.seen();
        seen.iter()
            .filter(|seen| seen.line().starts_with(start))
            .count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Response + Send + Sync),
    notes: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    while let Some(request) = read_request(&mut stream).await? {
        notes
            .lock()
            .expect("no answer panicked")
            .push(request.clone());
        let response = answer(&request);
        if !write_response(&mut stream, &request, &response).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the head of a message, byte by byte: it is short.
///
/// # Errors
/// Those of the connection; its end is the end of the head.
pub async fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

/// A request whose body is not read yet.
#[must_use]
pub fn parse_head(head: &[u8]) -> Request {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Request {
        method,
        path,
        headers: lines.filter_map(header).collect(),
        body: Vec::new(),
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let head = read_head(stream).await?;
    if head.is_empty() {
        return Ok(None);
    }
    let mut request = parse_head(&head);
    let length = request.header("content-length").map(str::parse);
    request.body = vec![0; length.map_or(0, |length| length.expect("a length"))];
    stream.read_exact(&mut request.body).await?;
    Ok(Some(request))
}

/// Whether the connection can be used again.
async fn write_response(
    stream: &mut TcpStream,
    request: &Request,
    response: &Response,
) -> std::io::Result<bool> {
    let sent = match response.end {
        End::Closed => return Ok(false),
        End::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return Ok(false);
        }
        End::CutAfter(bytes) | End::HangAfter(bytes) => bytes.min(response.body.len()),
        End::Whole | End::Chunked => response.body.len(),
    };
    let mut head = format!("HTTP/1.1 {} Status\r\n", response.status);
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let has_length = response
        .headers
        .iter()
        .any(|(name, _)| name == "content-length");
    if matches!(response.end, End::Chunked) {
        head += "transfer-encoding: chunked\r\n";
    } else if !has_length {
        head += &format!("content-length: {}\r\n", response.body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    match response.end {
        End::Chunked => {
            for piece in response.body.chunks(1000) {
                let size = format!("{:x}\r\n", piece.len());
                stream.write_all(size.as_bytes()).await?;
                stream.write_all(piece).await?;
                stream.write_all(b"\r\n").await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
        }
        _ => stream.write_all(&response.body[..sent]).await?,
    }
    stream.flush().await?;
    if let End::HangAfter(_) = response.end {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    Ok(matches!(response.end, End::Whole | End::Chunked) && !has_length)
}
