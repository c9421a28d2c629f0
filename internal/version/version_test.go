package version

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestABuildIsNamedByTheLinkerOrByGo(t *testing.T) {
	fromGit := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "false"}}
	changed := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}
	for name, tt := range map[string]struct {
		version, commit string
		info            debug.BuildInfo
		want            Build
	}{
		"make":                 {"v1.2.3", "fff", debug.BuildInfo{Main: debug.Module{Version: "v9.9.9"}, Settings: fromGit}, Build{"v1.2.3", "fff"}},
		"go install":           {Devel, "", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, Build{"v1.2.3", ""}},
		"go build":             {Devel, "", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: fromGit}, Build{Devel, "abc"}},
		"go build, changed":    {"", "", debug.BuildInfo{Settings: changed}, Build{Devel, "abc-dirty"}},
		"nothing is known":     {"", "", debug.BuildInfo{}, Build{Devel, ""}},
		"a version, no commit": {"v1.2.3", "", debug.BuildInfo{}, Build{"v1.2.3", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := of(tt.version, tt.commit, &tt.info); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestTheTextNamesVersionCommitAndGo(t *testing.T) {
	if got := (Build{"v1.2.3", "abc"}).String(); !strings.HasPrefix(got, "v1.2.3 (commit abc, "+runtime.Version()+", ") {
		t.Error(got)
	}
	if got := (Build{Version: Devel}).String(); strings.Contains(got, "commit") {
		t.Error(got)
	}
}
