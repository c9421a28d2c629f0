package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/internal/durable"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/appendlog"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

const blocksName = "blocks.db"

// blocksSchema: each table is read by its key only, and big columns are last, where SQLite does not
// touch them unless a query names them.
var blocksSchema = sqlitefile.Schema{
	Application: 0x44495142, // "DIQB"
	PageSize:    8192,
	WalkLimit:   walkLimit,
	Migrations: []string{`
CREATE TABLE chain (one INTEGER PRIMARY KEY CHECK (one = 1), chain_id TEXT NOT NULL, genesis_hash BLOB NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (height INTEGER PRIMARY KEY, block_sum INTEGER NOT NULL, messages_sum INTEGER NOT NULL,
  block BLOB NOT NULL, messages BLOB NOT NULL);
CREATE TABLE certificates (height INTEGER PRIMARY KEY, sum INTEGER NOT NULL, certificate BLOB NOT NULL);
CREATE TABLE justifications (height INTEGER PRIMARY KEY, sum INTEGER NOT NULL, justification BLOB NOT NULL);
CREATE TABLE batches (arrival INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, author BLOB NOT NULL, incarnation INTEGER NOT NULL,
  number INTEGER NOT NULL, sum INTEGER NOT NULL, batch BLOB NOT NULL);
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, beacon BLOB NOT NULL, output BLOB);
CREATE TABLE evidence (arrival INTEGER PRIMARY KEY, public_key BLOB NOT NULL, rule TEXT NOT NULL, height INTEGER NOT NULL,
  round INTEGER NOT NULL, evidence BLOB NOT NULL, UNIQUE (public_key, rule, height, round));`, `
CREATE TABLE copies (arrival INTEGER PRIMARY KEY, height INTEGER NOT NULL, sum INTEGER NOT NULL, block BLOB NOT NULL);
CREATE INDEX copies_by_height ON copies (height);`, `
CREATE TABLE changes (height INTEGER PRIMARY KEY, sum INTEGER NOT NULL, change BLOB NOT NULL);`, `
ALTER TABLE blocks ADD COLUMN places BLOB;
CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), scan_from INTEGER NOT NULL, durable_to INTEGER NOT NULL,
  last_group INTEGER NOT NULL);
CREATE TABLE ordered (position INTEGER PRIMARY KEY);`},
}

// firstReadable is the first schema whose blocks this program reads. Those of older files have
// protocol version 1, and no conversion keeps their hashes.
const firstReadable = 3

// firstWithLog is the first schema that refers to the log. In older files each block has its
// messages in its row, where they stay, and the batches that wait are in the table batches.
const firstWithLog = 4

// walkLimit is the file size, in bytes, up to which opening walks the whole structure of a database
// (some 0.3 s).
const walkLimit = 64 << 20

var (
	dropOlder = &sqlitefile.Statement{Name: "drop moved batches", SQL: "DELETE FROM batches WHERE arrival <= ?"}
	putLog    = &sqlitefile.Statement{Name: "put the end of the log", SQL: `
		INSERT INTO log (one, scan_from, durable_to, last_group) VALUES (1, ?, ?, ?)
		ON CONFLICT (one) DO UPDATE SET scan_from = excluded.scan_from, durable_to = excluded.durable_to, last_group = excluded.last_group`}
	addOrdered  = &sqlitefile.Statement{Name: "add ordered batch", SQL: "INSERT INTO ordered (position) VALUES (?) ON CONFLICT DO NOTHING"}
	passOrdered = &sqlitefile.Statement{Name: "pass ordered batches", SQL: "DELETE FROM ordered WHERE position < ?"}
	addBlock    = &sqlitefile.Statement{Name: "add block",
		SQL: "INSERT INTO blocks (height, block_sum, messages_sum, block, messages, places) VALUES (?, ?, ?, ?, ?, ?)"}
	addCertificate = &sqlitefile.Statement{Name: "add certificate",
		SQL: "INSERT INTO certificates (height, sum, certificate) VALUES (?, ?, ?)"}
	strengthen       = &sqlitefile.Statement{Name: "strengthen", SQL: "UPDATE certificates SET sum = ?, certificate = ? WHERE height = ?"}
	readCertificate  = &sqlitefile.Statement{Name: "read certificate", SQL: "SELECT sum, certificate FROM certificates WHERE height = ?"}
	addJustification = &sqlitefile.Statement{Name: "add justification",
		SQL: "INSERT INTO justifications (height, sum, justification) VALUES (?, ?, ?)"}
	addChange = &sqlitefile.Statement{Name: "add change", SQL: "INSERT INTO changes (height, sum, change) VALUES (?, ?, ?)"}
	addCopy   = &sqlitefile.Statement{Name: "add copy", SQL: "INSERT INTO copies (height, sum, block) VALUES (?, ?, ?)"}
	putEpoch  = &sqlitefile.Statement{Name: "put epoch", SQL: `INSERT INTO epochs (epoch, beacon, output) VALUES (?, ?, ?)
		ON CONFLICT (epoch) DO UPDATE SET beacon = excluded.beacon, output = coalesce(excluded.output, output)`}
	addEvidence = &sqlitefile.Statement{Name: "add evidence", SQL: `INSERT INTO evidence (public_key, rule, height, round, evidence)
		SELECT ?1, ?2, ?3, ?4, ?5 WHERE (SELECT count(*) FROM evidence WHERE public_key = ?1) < ?6
		ON CONFLICT (public_key, rule, height, round) DO NOTHING`}
	putMeta = &sqlitefile.Statement{Name: "put meta",
		SQL: "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"}
)

// Options are what a store needs besides its directory and chain. The zero value is fine.
type Options struct {
	// Logger takes the errors of work that no caller waits for; nil for none.
	Logger *slog.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer

	// segmentBytes is appendlog.Options.SegmentBytes.
	segmentBytes int64
}

// tip is the newest final block.
type tip struct {
	height uint64
	hash   chain.Hash
}

// Store is an open data directory. Its methods may be called from any goroutine.
type Store struct {
	dir     string
	file    *sqlitefile.File // blocks.db
	genesis *chain.Genesis
	// identity is the hash of genesis.
	identity chain.Hash
	logger   *slog.Logger
	lock     *os.File
	reads    *sql.DB
	writer   *writer
	tip      atomic.Pointer[tip]
	found    *appendlog.Found // until log is open
	log      *appendlog.Log
	pending  *pending
	// unmarked is set while blocks.db does not say where the log ends.
	unmarked bool
	// segmentBytes is appendlog.Options.SegmentBytes.
	segmentBytes int64
	making       sync.Mutex
	made         *body // of the block that was last committed, or tried to be
	madeOf       chain.Hash
	// evidence counts the stored pieces.
	evidence atomic.Int64
	closing  sync.Once
	closed   error

	strengthening sync.Mutex
	stronger      map[uint64]*chain.Certificate // by height, not written yet
	written       []*chain.Certificate          // those that the transaction under way writes
}

// Open opens the data directory of a chain, creating directory and blocks.db if they do not exist.
// It fails, changing no byte of the files, with an error that wraps [ErrLocked], [ErrWrongChain],
// [ErrNewerSchema], [ErrOldProtocol] or [ErrCorrupt].
func Open(dir string, genesis *chain.Genesis, options Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := durable.MakeDirectory(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	logger := options.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		dir: dir, file: &sqlitefile.File{Path: filepath.Join(dir, blocksName), Schema: &blocksSchema},
		genesis: genesis, identity: genesis.Hash(), logger: logger, lock: lock,
		stronger: map[uint64]*chain.Certificate{}, pending: newPending(), segmentBytes: options.segmentBytes,
	}
	if err := s.open(options.Registerer); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(registerer prometheus.Registerer) error {
	if err := s.ready(); err != nil {
		return err
	}
	seconds := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "diseq_store_transaction_seconds", Help: "Time of a transaction of blocks.db, including its fsync.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	})
	logSeconds := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "diseq_store_log_seconds", Help: "Time of a write to the message log, including its fsync.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	})
	if registerer != nil {
		if err := errors.Join(registerer.Register(seconds), registerer.Register(logSeconds)); err != nil {
			return fmt.Errorf("store: metrics: %w", err)
		}
	}
	// Before the readers: it makes the log that they share.
	out, err := s.file.OpenWriter(s.logger)
	if err != nil {
		return err
	}
	if err := s.openReads(); err != nil {
		return errors.Join(err, out.Close())
	}
	s.writer = &writer{
		file: s.file, out: out, logger: s.logger, seconds: seconds, tip: *s.tip.Load(),
		lazy: s.writeStronger, mark: s.writeLogMark, stay: s.pending.stay, durable: s.durable,
		queue: make(chan *operation, groupOperations), poke: make(chan struct{}, 1),
	}
	s.writer.done.Go(s.writer.loop)
	return s.openLog(logSeconds)
}

func (s *Store) openLog(seconds prometheus.Observer) (err error) {
	if s.log, err = s.found.Open(seconds); err != nil {
		return err
	}
	s.found = nil
	if s.unmarked {
		// Before the first batch is in the log, or a crash would leave one that nothing looks for.
		err := s.writer.submit(context.Background(), 0, func(tx *transaction) error { tx.marks = true; return nil })
		if err != nil {
			return err
		}
	}
	return s.moveBatches(context.Background())
}

func (s *Store) openReads() (err error) {
	if s.reads, err = s.file.OpenReading(4); err != nil {
		return err
	}
	var evidence int64
	if err := s.reads.QueryRow("SELECT count(*) FROM evidence").Scan(&evidence); err != nil {
		return s.file.Explain("count evidence", err)
	}
	s.evidence.Store(evidence)
	return nil
}

// ready creates blocks.db, or inspects it and takes an older schema to the newest.
func (s *Store) ready() error {
	exists, err := s.file.Exists()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if !exists {
		if err := s.passLog(); err != nil {
			return err
		}
		s.tip.Store(&tip{hash: s.genesisBlock().Hash()})
		return s.file.Create(func(tx *sql.Tx) error {
			hash := s.genesis.Hash()
			_, err := tx.Exec("INSERT INTO chain (one, chain_id, genesis_hash) VALUES (1, ?, ?)", s.genesis.ChainID, hash[:])
			if err != nil {
				return err
			}
			s.unmarked = false
			end := s.found.Mark()
			_, err = tx.Exec(putLog.SQL, end.End, end.End, int64(end.Group))
			return err
		})
	}
	version, err := s.file.Inspect(s.inspectBlocks)
	if err != nil {
		return err
	}
	return s.file.Upgrade(version)
}

// linksChecked is how many of the newest blocks are read when a store is opened.
const linksChecked = 8

// inspectBlocks compares the chain, and reads the newest blocks.
func (s *Store) inspectBlocks(db *sql.DB) error {
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return s.file.Explain("read the version", err)
	}
	if version < firstReadable {
		return fmt.Errorf("%s: %w (schema version %d), and this program reads version %d only; read this chain with the older program. "+
			"A new chain needs an empty directory, and a genesis document with another chain_id",
			blocksName, ErrOldProtocol, version, chain.ProtocolVersion)
	}
	var id string
	var hash []byte
	err := db.QueryRow("SELECT chain_id, genesis_hash FROM chain").Scan(&id, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return s.file.Corrupt("it does not name its chain")
	}
	if err != nil {
		return s.file.Explain("read the chain", err)
	}
	if want := s.genesis.Hash(); id != s.genesis.ChainID || string(hash) != string(want[:]) {
		return fmt.Errorf("%s: %w: the file is of chain %q with genesis hash %x, the genesis document of %q with %v",
			blocksName, ErrWrongChain, id, hash, s.genesis.ChainID, want)
	}
	var first, newest, certified int64
	if err := db.QueryRow("SELECT coalesce(min(height), 0) FROM blocks").Scan(&first); err != nil {
		return s.file.Explain("read the first height", err)
	}
	if err := db.QueryRow("SELECT coalesce(max(height), 0) FROM blocks").Scan(&newest); err != nil {
		return s.file.Explain("read the newest height", err)
	}
	if err := db.QueryRow("SELECT coalesce(max(height), 0) FROM certificates").Scan(&certified); err != nil {
		return s.file.Explain("read the newest certificate", err)
	}
	if certified != newest || (newest > 0 && first != 1) {
		return s.file.Corrupt("blocks %d to %d, certificates to %d", first, newest, certified)
	}
	if err := s.inspectLog(db, version); err != nil {
		return err
	}
	r := reader{db: db, file: s.file, log: s.found.Reader(), places: placesColumn(version)}
	return s.inspectNewest(r, uint64(newest))
}

func (s *Store) inspectNewest(r reader, newest uint64) error {
	from := max(1, newest-min(newest, linksChecked-1))
	last := tip{hash: s.genesisBlock().Hash()}
	for height := from; height <= newest; height++ {
		f, err := r.block(context.Background(), height)
		if err != nil {
			return err
		}
		if (height > from || from == 1) && f.Header.ParentHash != last.hash {
			return s.file.Corrupt("block %d names parent %v, block %d is %v", height, f.Header.ParentHash, height-1, last.hash)
		}
		last = tip{height: height, hash: f.Hash()}
	}
	s.tip.Store(&last)
	return nil
}

func (s *Store) genesisBlock() *chain.FinalBlock {
	return &chain.FinalBlock{Block: chain.Block{Header: s.genesis.Header()}}
}

// Height returns the height of the newest final block on disk; 0 is genesis.
func (s *Store) Height() uint64 { return s.tip.Load().height }

// Close writes everything queued, closes the files and releases the directory. The vote store has
// its own Close, which comes first. Closing again does nothing.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = s.close() })
	return s.closed
}

func (s *Store) close() error {
	var errs []error
	if s.writer != nil {
		s.writer.close()
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	// before the writer's connection: the last one to close moves the log into the file
	if s.reads != nil {
		errs = append(errs, s.reads.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.out.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

const lockName = "LOCK"

func lockDirectory(dir string) (*os.File, error) {
	lock, err := sqlitefile.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return lock, nil
}

// signed returns a number as SQLite has it.
func signed(v uint64) (int64, error) {
	if v > math.MaxInt64 {
		return 0, fmt.Errorf("store: number %d is out of range", v)
	}
	return int64(v), nil
}
