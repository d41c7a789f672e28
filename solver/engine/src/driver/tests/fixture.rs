//! Operations that count, and an engine over them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::cache_store::memory::MemoryCacheStore;
use crate::progress::{OpOutput, OutputSink, OutputStream, VertexProgress};
use crate::{
    CacheKey, CacheStore, CancelToken, Edge, Engine, EvaluateError, Limits, Listener, Op,
    OpContext, OpError, Vertex, VertexId, VertexInfo,
};

/// What an operation does when it runs.
#[derive(Clone)]
pub(super) enum Act {
    /// Gives `name(inputs)`.
    Join,
    /// Gives this, whatever its inputs are.
    Give(&'static str),
    Fail,
    Panic,
    /// Tells that it began, then waits for the permission or its cancellation.
    Wait {
        begun: Arc<Notify>,
        go: Arc<Notify>,
    },
    /// As `Wait`, and fails when permitted.
    WaitThenFail {
        begun: Arc<Notify>,
        go: Arc<Notify>,
    },
}

pub(super) struct TestOp {
    pub(super) definition: String,
    pub(super) act: Act,
    pub(super) runs: Arc<AtomicUsize>,
    pub(super) running: Arc<AtomicUsize>,
    pub(super) peak: Arc<AtomicUsize>,
    /// Where the last sink is left behind.
    pub(super) sink: Mutex<Option<OutputSink>>,
}

impl Op for TestOp {
    type Value = String;

    fn cache_map(&self, context: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        if self.definition.starts_with("loud") {
            context.output.status("resolving", 0, None, true);
        }
        assert!(!self.definition.starts_with("panic"), "cannot be mapped");
        Box::pin(async {
            Ok(CacheKey::builder("test definition")
                .bytes(&self.definition)
                .finish())
        })
    }

    fn content_key<'a>(
        &'a self,
        inputs: &'a [String],
        _: OpContext,
    ) -> BoxFuture<'a, Result<Option<CacheKey>, OpError>> {
        let key = CacheKey::builder("test content");
        let key = inputs
            .iter()
            .fold(key, crate::CacheKeyBuilder::bytes)
            .finish();
        Box::pin(async move { Ok((!self.definition.starts_with("opaque")).then_some(key)) })
    }

    fn exec<'a>(
        &'a self,
        inputs: &'a [String],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<String>, OpError>> {
        *self.sink.lock().unwrap() = Some(context.output.clone());
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.peak.fetch_max(running, Ordering::SeqCst);
            context
                .output
                .log(OutputStream::Stdout, format!("running {}", self.definition));
            tokio::task::yield_now().await;
            let result = self.act(inputs, &context).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            result
        })
    }
}

impl TestOp {
    async fn act(&self, inputs: &[String], context: &OpContext) -> Result<Vec<String>, OpError> {
        let joined = format!("{}({})", self.definition, inputs.join(","));
        match &self.act {
            Act::Join => Ok(vec![joined]),
            Act::Give(value) => Ok(vec![(*value).to_string()]),
            Act::Fail => Err(OpError::new(std::io::Error::other("exit code 1"))),
            Act::Panic => panic!("a bug in {}", self.definition),
            Act::Wait { begun, go } | Act::WaitThenFail { begun, go } => {
                begun.notify_one();
                let permitted = tokio::select! {
                    () = go.notified() => true,
                    () = context.cancel.cancelled() => false,
                };
                match (permitted, &self.act) {
                    (true, Act::Wait { .. }) => Ok(vec![joined]),
                    _ => {
                        // Ending takes its time; `evaluate` must wait for it.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Err(OpError::new("gave up"))
                    }
                }
            }
        }
    }
}

/// Builds graphs and remembers what ran.
pub(super) struct Bench {
    pub(super) engine: Engine<String>,
    pub(super) store: Arc<MemoryCacheStore<String>>,
    pub(super) running: Arc<AtomicUsize>,
    pub(super) peak: Arc<AtomicUsize>,
    pub(super) runs: Mutex<BTreeMap<String, Arc<AtomicUsize>>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::over(Arc::new(MemoryCacheStore::new()))
    }

    pub(super) fn over(store: Arc<MemoryCacheStore<String>>) -> Self {
        let limits = Limits {
            max_parallel_execs: 2,
            ..Limits::default()
        };
        let engine = Engine::new(Arc::clone(&store) as Arc<dyn CacheStore<String>>, limits);
        let (running, peak, runs) = (Arc::default(), Arc::default(), Mutex::default());
        Self {
            engine,
            store,
            running,
            peak,
            runs,
        }
    }

    pub(super) fn vertex(
        &self,
        name: &str,
        definition: &str,
        inputs: &[&str],
        act: Act,
    ) -> Vertex<String> {
        let runs = Arc::clone(self.runs.lock().unwrap().entry(name.into()).or_default());
        let op = TestOp {
            definition: definition.into(),
            act,
            runs,
            running: Arc::clone(&self.running),
            peak: Arc::clone(&self.peak),
            sink: Mutex::new(None),
        };
        Vertex {
            id: id(name),
            inputs: inputs.iter().map(|input| edge(input)).collect(),
            op: Arc::new(op),
            name: name.into(),
            ignore_cache: false,
        }
    }

    /// A vertex whose definition is its name.
    pub(super) fn join(&self, name: &str, inputs: &[&str]) -> Vertex<String> {
        self.vertex(name, name, inputs, Act::Join)
    }

    pub(super) async fn evaluate(
        &self,
        graph: Vec<Vertex<String>>,
        targets: &[&str],
    ) -> (Result<Vec<String>, EvaluateError>, Vec<String>) {
        let listener = Arc::new(Recorder::default());
        let targets: Vec<_> = targets.iter().map(|target| edge(target)).collect();
        let cancel = CancelToken::new();
        let heard = Arc::clone(&listener) as Arc<dyn Listener>;
        let result = self.engine.evaluate(graph, &targets, heard, &cancel).await;
        (result, listener.lines())
    }

    pub(super) fn runs_of(&self, name: &str) -> usize {
        self.runs
            .lock()
            .unwrap()
            .get(name)
            .map_or(0, |runs| runs.load(Ordering::SeqCst))
    }
}

pub(super) fn id(name: &str) -> VertexId {
    VertexId::from_bytes(*blake3::hash(name.as_bytes()).as_bytes())
}

pub(super) fn edge(name: &str) -> Edge {
    Edge {
        vertex: id(name),
        output: 0,
    }
}

pub(super) fn waiting() -> (Arc<Notify>, Arc<Notify>, Act) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let act = Act::Wait {
        begun: Arc::clone(&begun),
        go: Arc::clone(&go),
    };
    (begun, go, act)
}

/// Writes down what it hears and insists on the protocol.
#[derive(Default)]
pub(super) struct Recorder {
    heard: Mutex<(BTreeMap<VertexId, u8>, Vec<String>)>,
}

impl Recorder {
    pub(super) fn lines(&self) -> Vec<String> {
        self.heard.lock().unwrap().1.clone()
    }
}

impl Listener for Recorder {
    fn vertex(&self, vertex: &VertexInfo, progress: &VertexProgress) {
        let mut heard = self.heard.try_lock().expect("calls do not overlap");
        let station = heard.0.get(&vertex.id).copied().unwrap_or(0);
        let (expected, next, word) = match progress {
            VertexProgress::Queued => (0..1, 1, None),
            VertexProgress::Started => (1..2, 2, Some("started".to_string())),
            VertexProgress::Completed(completion) => (1..3, 3, Some(format!("{completion:?}"))),
        };
        assert!(
            expected.contains(&station),
            "{} {progress:?} after {station}",
            vertex.name
        );
        heard.0.insert(vertex.id, next);
        heard
            .1
            .extend(word.map(|word| format!("{} {word}", vertex.name)));
    }

    fn output(&self, vertex: &VertexInfo, output: &OpOutput) {
        let mut heard = self.heard.try_lock().expect("calls do not overlap");
        assert_eq!(
            heard.0.get(&vertex.id),
            Some(&2),
            "output of what does not run"
        );
        if let OpOutput::Log { bytes, .. } = output {
            let line = format!("{}: {}", vertex.name, String::from_utf8_lossy(bytes));
            heard.1.push(line);
        }
    }
}
