package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestEnvironmentOverridesTheFile(t *testing.T) {
	c, err := Parse(minimal, []string{
		"DETACH_DATA_DIR=/srv/detach", "DETACH_STORE_KIND=kubo", "DETACH_GATEWAY_URL=https://other.example.org", "DETACH_KEYS_RETENTION=30d",
		"DETACH_PROXY_MIN_SIZE=1MiB", "DETACH_PROXY_0_RESTORE=false", "DETACH_PROXY_0_NOTICE=top",
		"DETACH_PROXY_0_RESTORE_OMIT=X-Originating-IP, User-Agent", "PATH=/bin",
	})
	must.Succeed(t, err)
	p := c.Proxy[0]
	if c.DataDir != "/srv/detach" || c.Store.Kind != "kubo" || c.Gateway.URL != "https://other.example.org" || c.Keys.Retention != Duration(30*day) ||
		p.MinSize != 1<<20 || p.Restore || p.Notice != "top" || p.Reinject != "127.0.0.1:10026" || !slices.Equal(p.RestoreOmit, []string{"X-Originating-IP", "User-Agent"}) {
		t.Errorf("got %+v", c)
	}
}

func TestEnvironmentCanBeTheWholeConfiguration(t *testing.T) {
	c, err := Parse("", []string{
		"DETACH_PROXY_1_LISTEN=127.0.0.1:10125", "DETACH_PROXY_1_REINJECT=127.0.0.1:10126",
		"DETACH_PROXY_0_REINJECT=127.0.0.1:10026", "DETACH_GATEWAY_URL=https://files.example.org",
	})
	must.Succeed(t, err)
	if len(c.Proxy) != 2 || c.Proxy[0].Reinject != "127.0.0.1:10026" || c.Proxy[1].Listen != "127.0.0.1:10125" || c.Proxy[1].OnFailure != "tempfail" {
		t.Errorf("got %+v", c.Proxy)
	}
}

func TestMistakesInTheEnvironmentAreRefused(t *testing.T) {
	two := minimal + "[[proxy]]\nlisten = \"127.0.0.1:10125\"\nreinject = \"127.0.0.1:10126\""
	tests := []struct{ text, variable, want string }{
		{minimal, "DETACH_STORE_KNID=kubo", "did you mean DETACH_STORE_KIND?"},
		{minimal, "DETACH_PROXY_0_LISTN=x", "did you mean DETACH_PROXY_0_LISTEN?"},
		{minimal, "DETACH_PROXY_2_LISTEN=127.0.0.1:1", "number them from 0"},
		{two, "DETACH_PROXY_LISTEN=127.0.0.1:1", "say which, as DETACH_PROXY_0_LISTEN"},
		{minimal, "DETACH_PROXY_0_RESTORE=maybe", "DETACH_PROXY_0_RESTORE: \"maybe\" is neither yes nor no"},
		{minimal, "DETACH_PROXY_RESTORE_OMIT=User-Agent,From", "proxy[0].restore_omit: \"From\" is needed"},
		{minimal, "DETACH_KEYS_RETENTION=month", "DETACH_KEYS_RETENTION: "},
		{minimal, "DETACH_GATEWAY_URL=http://files.example.org", "gateway.url: "},
	}
	for _, tt := range tests {
		if _, err := Parse(tt.text, []string{tt.variable}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error = %v, want %q in it", tt.variable, err, tt.want)
		}
	}
}

// Kubernetes sets these variables for services called detach, detach-gateway and detach-proxy.
func TestForeignVariablesAreIgnored(t *testing.T) {
	_, err := Parse(minimal, []string{
		"DETACH_PORT=tcp://10.0.0.1:25", "DETACH_SERVICE_HOST=10.0.0.1", "DETACH_GATEWAY_PORT=tcp://10.0.0.1:80",
		"DETACH_GATEWAY_SERVICE_PORT=80", "DETACH_PROXY_SERVICE_HOST=10.0.0.1", "DETACH_PROXY_PORT_25_TCP=x", "DETACH_CONFIG=/etc/detach.toml",
	})
	if err != nil {
		t.Error(err)
	}
}
