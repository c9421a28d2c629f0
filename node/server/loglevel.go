package server

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// logLevels are the levels of the log, by their names in the configuration file.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// ParseLogLevel returns the level of that name: debug, info, warn or error.
func ParseLogLevel(name string) (slog.Level, bool) {
	level, ok := logLevels[name]
	return level, ok
}

func (s *Server) getLogLevel(w http.ResponseWriter, _ *http.Request) error {
	writeText(w, http.StatusOK, strings.ToLower(s.level.Level().String())+"\n")
	return nil
}

// putLogLevel changes the level until the node ends. The body is the name of the level; any media
// type will do, as curl -d sends one.
func (s *Server) putLogLevel(w http.ResponseWriter, r *http.Request) error {
	if _, err := contentType(w, r); err != nil {
		return err
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
	if err != nil {
		return err
	}
	name := strings.TrimSpace(string(b))
	level, ok := ParseLogLevel(name)
	if !ok {
		return badRequest("log level %q: want debug, info, warn or error", name)
	}
	if before := s.level.Level(); before != level {
		s.level.Set(level)
		s.log.Warn("log level changed", "from", strings.ToLower(before.String()), "to", name, "client", r.RemoteAddr)
	}
	return s.getLogLevel(w, r)
}
