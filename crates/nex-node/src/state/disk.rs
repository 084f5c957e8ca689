//! Records in a file: an embedded database that syncs to disk at every commit.
//!
//! One thread owns the database, so that no sync blocks a thread of NATS. What is asked for while a
//! commit is under way shares the next one: a sync costs milliseconds, whatever it writes.
//!
//! A removal writes pages too. On a full disk it gets the space of a file that is there for that.

use std::{
    error::Error,
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
};

use jiff::Timestamp;
use nex_protocol::{NexletId, NodeId, WorkloadId, registration::RegisterRequest};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::oneshot;
use tracing::warn;

use super::{Pending, Record, StateError, StateStore};

/// The start requests, by workload id.
const WORKLOADS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("workloads");

/// The registrations of remote nexlets, by nexlet id.
const NEXLETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("nexlets");

/// What is kept of the node itself, by its name.
const NODE: TableDefinition<'_, &str, &str> = TableDefinition::new("node");

/// When it ends, where it is a lame duck.
const LAMEDUCK: &str = "lameduck";

/// Memory for pages of the file, in bytes. The node has all it needs in memory already.
const CACHE_BYTES: usize = 1024 * 1024;

/// The size of the file that keeps space for removals, in bytes. A commit writes some ten pages of 4 KiB.
const RESERVE_BYTES: usize = 256 * 1024;

/// The most orders that share a commit.
const MAX_BATCH: usize = 1024;

/// A journal in a file of its own, for one node.
#[derive(Debug)]
pub struct DiskStore {
    path: PathBuf,
    /// Always there, until it is dropped.
    orders_tx: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for DiskStore {
    /// Waits for a write that is under way, some milliseconds, so that the file can be opened again.
    fn drop(&mut self) {
        self.orders_tx = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: it has said so.
            thread.join().ok();
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

enum Order {
    Load(oneshot::Sender<Result<Vec<Record>, Failure>>),
    LoadNexlets(oneshot::Sender<Result<Vec<(NexletId, RegisterRequest)>, Failure>>),
    LoadLameduck(oneshot::Sender<Result<Option<Timestamp>, Failure>>),
    Write(Change, oneshot::Sender<Result<(), String>>),
}

enum Change {
    Put(WorkloadId, Vec<u8>),
    Remove(WorkloadId),
    PutNexlet(NexletId, Vec<u8>),
    RemoveNexlet(NexletId),
    Lameduck(Option<Timestamp>),
}

impl Change {
    fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::Remove(_) | Self::RemoveNexlet(_) | Self::Lameduck(None)
        )
    }
}

impl DiskStore {
    /// Opens `<folder>/<node>.redb`, and makes both where they are not there. Blocks.
    ///
    /// # Errors
    /// [`StateError::Open`]: the file is damaged, not ours to write, or open in another process.
    pub fn open(folder: &Path, node: &NodeId) -> Result<Self, StateError> {
        let path = folder.join(format!("{node}.redb"));
        let failed = |source: Failure| StateError::Open {
            place: path.display().to_string(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed(error.into()))?;
        let database = open(&path).map_err(|error| failed(error.into()))?;
        make_private(&path).map_err(|error| failed(error.into()))?;
        let (orders_tx, orders_rx) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn({
                let path = path.clone();
                move || serve(&path, database, &orders_rx)
            })
            .map_err(|error| failed(error.into()))?;
        Ok(Self {
            path,
            orders_tx: Some(orders_tx),
            thread: Some(thread),
        })
    }

    fn order(&self, order: Order) -> Result<(), Failure> {
        let orders_tx = self.orders_tx.as_ref().ok_or(GONE)?;
        orders_tx.send(order).map_err(|_| GONE.into())
    }

    async fn read<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Order,
    ) -> Result<T, StateError> {
        let failed = |source: Failure| StateError::Read {
            place: self.path.display().to_string(),
            source,
        };
        let (done_tx, done_rx) = oneshot::channel();
        self.order(order(done_tx)).map_err(failed)?;
        let loaded = done_rx.await.map_err(|_| failed(GONE.into()))?;
        loaded.map_err(failed)
    }

    async fn write(&self, change: Change) -> Result<(), StateError> {
        let failed = |source: Failure| StateError::Write {
            place: self.path.display().to_string(),
            source,
        };
        let (done_tx, done_rx) = oneshot::channel();
        self.order(Order::Write(change, done_tx)).map_err(failed)?;
        let done = done_rx.await.map_err(|_| failed(GONE.into()))?;
        done.map_err(|text| failed(text.into()))
    }
}

const GONE: &str = "the journal's thread has ended";

/// Start requests can hold secrets of their workloads.
fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

impl StateStore for DiskStore {
    fn load(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(self.read(Order::Load))
    }

    fn put<'a>(&'a self, record: &'a Record) -> Pending<'a, ()> {
        Box::pin(self.write(Change::Put(record.id.clone(), record.encode())))
    }

    fn remove<'a>(&'a self, id: &'a WorkloadId, _workload_type: &'a str) -> Pending<'a, ()> {
        Box::pin(self.write(Change::Remove(id.clone())))
    }

    fn load_nexlets(&self) -> Pending<'_, Vec<(NexletId, RegisterRequest)>> {
        Box::pin(self.read(Order::LoadNexlets))
    }

    fn put_nexlet<'a>(
        &'a self,
        id: &'a NexletId,
        registration: &'a RegisterRequest,
    ) -> Pending<'a, ()> {
        let value = serde_json::to_vec(registration);
        let value = value.expect("a registration is made of texts and numbers");
        Box::pin(self.write(Change::PutNexlet(id.clone(), value)))
    }

    fn remove_nexlet<'a>(&'a self, id: &'a NexletId) -> Pending<'a, ()> {
        Box::pin(self.write(Change::RemoveNexlet(id.clone())))
    }

    fn load_lameduck(&self) -> Pending<'_, Option<Timestamp>> {
        Box::pin(self.read(Order::LoadLameduck))
    }

    fn put_lameduck(&self, ends: Option<Timestamp>) -> Pending<'_, ()> {
        Box::pin(self.write(Change::Lameduck(ends)))
    }
}

fn open(path: &Path) -> Result<Database, redb::DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).create(path)
}

/// Works on orders until nobody can give any more. A database takes no more orders after an error of
/// its file, a full disk say: it is then opened anew.
fn serve(path: &Path, database: Database, orders_rx: &mpsc::Receiver<Order>) {
    keep_reserve(path);
    let mut database = Some(database);
    while let Ok(first) = orders_rx.recv() {
        let mut changes = Vec::new();
        let waiting = std::iter::once(first).chain(orders_rx.try_iter());
        for order in waiting.take(MAX_BATCH) {
            match order {
                // Who asked may be gone; then nobody needs the answer.
                Order::Load(done_tx) => {
                    let loaded = opened(path, &mut database).and_then(load);
                    drop(done_tx.send(loaded));
                }
                Order::LoadNexlets(done_tx) => {
                    let loaded = opened(path, &mut database).and_then(load_nexlets);
                    drop(done_tx.send(loaded));
                }
                Order::LoadLameduck(done_tx) => {
                    let loaded = opened(path, &mut database).and_then(load_lameduck);
                    drop(done_tx.send(loaded));
                }
                Order::Write(change, done_tx) => changes.push((change, done_tx)),
            }
        }
        if changes.is_empty() {
            continue;
        }
        let mut written = write(path, &mut database, &changes);
        if written.is_err() && fs::remove_file(reserve(path)).is_ok() {
            let (removals, others): (Vec<_>, Vec<_>) = changes
                .into_iter()
                .partition(|(change, _)| change.is_removal());
            answer(others, &written);
            changes = removals;
            if !changes.is_empty() {
                written = write(path, &mut database, &changes);
            }
        }
        if written.is_ok() {
            keep_reserve(path);
        }
        answer(changes, &written);
    }
}

type Asked = (Change, oneshot::Sender<Result<(), String>>);

fn answer(changes: Vec<Asked>, written: &Result<(), String>) {
    for (_, done_tx) in changes {
        drop(done_tx.send(written.clone()));
    }
}

fn write(path: &Path, database: &mut Option<Database>, changes: &[Asked]) -> Result<(), String> {
    let written = opened(path, database)
        .and_then(|database| Ok(commit(database, changes.iter().map(|(change, _)| change))?));
    if written.is_err() {
        *database = None;
    }
    written.map_err(|error| error.to_string())
}

/// The file that keeps space for removals.
fn reserve(path: &Path) -> PathBuf {
    path.with_extension("reserve")
}

/// Makes the reserve where there is none and the disk has the space.
fn keep_reserve(path: &Path) {
    let reserve = reserve(path);
    if !reserve.exists() && take_space(&reserve).is_err() {
        fs::remove_file(&reserve).ok();
    }
}

/// Makes a file of [`RESERVE_BYTES`]. Most file systems can give it the space without writing it.
fn take_space(path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    #[cfg(target_os = "linux")]
    if rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        RESERVE_BYTES as u64,
    )
    .is_ok()
    {
        return Ok(());
    }
    file.write_all(&vec![1; RESERVE_BYTES])
}

fn opened<'a>(path: &Path, database: &'a mut Option<Database>) -> Result<&'a Database, Failure> {
    if database.is_none() {
        *database = Some(open(path)?);
    }
    database.as_ref().ok_or_else(|| GONE.into())
}

fn commit<'a>(
    database: &Database,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(WORKLOADS)?;
        let mut nexlets = transaction.open_table(NEXLETS)?;
        let mut node = transaction.open_table(NODE)?;
        for change in changes {
            match change {
                Change::Put(id, value) => drop(table.insert(id.as_str(), value.as_slice())?),
                Change::Remove(id) => drop(table.remove(id.as_str())?),
                Change::PutNexlet(id, value) => {
                    drop(nexlets.insert(id.as_str(), value.as_slice())?);
                }
                Change::RemoveNexlet(id) => drop(nexlets.remove(id.as_str())?),
                Change::Lameduck(Some(ends)) => {
                    drop(node.insert(LAMEDUCK, ends.to_string().as_str())?);
                }
                Change::Lameduck(None) => drop(node.remove(LAMEDUCK)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn load(database: &Database) -> Result<Vec<Record>, Failure> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(WORKLOADS) {
        Ok(table) => table,
        // Nothing was ever written.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let Ok(id) = WorkloadId::new(key.value()) else {
            warn!(key = key.value(), "ignored a record whose key is no id");
            continue;
        };
        match Record::decode(id, value.value()) {
            Ok(record) => records.push(record),
            Err(error) => warn!(workload = key.value(), %error, "ignored an unreadable record"),
        }
    }
    Ok(records)
}

fn load_nexlets(database: &Database) -> Result<Vec<(NexletId, RegisterRequest)>, Failure> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(NEXLETS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut nexlets = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let id = NexletId::new(key.value());
        match (id, serde_json::from_slice(value.value())) {
            (Ok(id), Ok(registration)) => nexlets.push((id, registration)),
            _ => warn!(nexlet = key.value(), "ignored an unreadable registration"),
        }
    }
    Ok(nexlets)
}

fn load_lameduck(database: &Database) -> Result<Option<Timestamp>, Failure> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(NODE) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kept = table.get(LAMEDUCK)?;
    let ends = kept.map(|ends| ends.value().parse::<Timestamp>());
    Ok(ends.transpose()?)
}
