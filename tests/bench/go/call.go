package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sercand/kuberesolver/v6"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
)

const roundRobin = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// direct is kuberesolver's own client, but for an API server anywhere: its in-cluster one reads fixed files only.
type direct struct {
	host, token string
	http        *http.Client
}

func (d *direct) Do(request *http.Request) (*http.Response, error) { return d.http.Do(request) }
func (d *direct) Host() string                                     { return d.host }
func (d *direct) GetRequest(url string) (*http.Request, error) {
	if !strings.HasPrefix(url, d.host) {
		url = d.host + "/" + url
	}
	request, err := http.NewRequest("GET", url, nil)
	if err == nil {
		request.Header.Set("Authorization", "Bearer "+d.token)
	}
	return request, err
}

// counting wraps kuberesolver to learn how many distinct addresses grpc was given last.
type counting struct {
	resolver.Builder
	known *atomic.Int64
}

func (c counting) Build(t resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	return c.Builder.Build(t, told{cc, c.known}, o)
}

type told struct {
	resolver.ClientConn
	known *atomic.Int64
}

func (t told) UpdateState(state resolver.State) error {
	distinct := map[string]bool{}
	for _, each := range state.Addresses {
		distinct[each.Addr] = true
	}
	t.known.Store(int64(len(distinct)))
	return t.ClientConn.UpdateState(state)
}

type tally struct {
	calls, failed int
	failures      []string
}

// call calls as it is told to. Orders: "call TAG", "rest TAG", "burst TAG CALLS", "cpu TAG", "known TAG".
func call(arguments []string) {
	flags := flag.NewFlagSet("call", flag.ExitOnError)
	target := flags.String("target", "", "whom to call")
	api := flags.String("api", "", "URL of the API server")
	ca := flags.String("ca", "", "file with its CA")
	token := flags.String("token", "", "file with a token for it")
	gap := flags.Duration("gap", 200*time.Microsecond, "rest between two calls")
	flags.Parse(arguments)

	var known atomic.Int64
	if *api != "" {
		resolver.Register(counting{kuberesolver.NewBuilder(connect(*api, *ca, *token), "kubernetes"), &known})
	}
	began := now()
	connection, err := grpc.NewClient(*target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(roundRobin),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		fail(err)
	}
	once := func(wait bool) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var asked, answer []byte
		return connection.Invoke(ctx, unary, &asked, &answer, grpc.WaitForReady(wait))
	}
	if err := once(true); err != nil {
		fail(err)
	}
	emit("ready", map[string]any{"took": now() - began})

	var calling atomic.Bool
	var running sync.WaitGroup
	var counts tally
	loop := func() {
		defer running.Done()
		for calling.Load() {
			if err := once(false); err != nil {
				counts.failed++
				counts.failures = append(counts.failures[:min(len(counts.failures), 9)], err.Error())
			}
			counts.calls++
			pause(*gap)
		}
	}
	obey(func(what, tag string, words []string) {
		values := map[string]any{"tag": tag}
		switch what {
		case "call":
			counts = tally{}
			calling.Store(true)
			running.Add(1)
			go loop()
		case "rest":
			calling.Store(false)
			running.Wait()
			values["calls"], values["failed"], values["failures"] = counts.calls, counts.failed, counts.failures
		case "burst":
			times, err := strconv.Atoi(words[0])
			if err != nil {
				fail(err)
			}
			for range times {
				if err := once(false); err != nil {
					fail(err)
				}
			}
		case "cpu":
			values["seconds"] = spent()
		case "known":
			values["known"] = known.Load()
		default:
			fail(fmt.Errorf("order %q is not known", what))
		}
		emit(what, values)
	})
}

// pause sleeps in the kernel: Go's own timers are as coarse as a millisecond when nothing else runs.
func pause(gap time.Duration) {
	if gap > 0 {
		rest := unix.NsecToTimespec(int64(gap))
		unix.Nanosleep(&rest, nil)
	}
}

func spent() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func connect(api, ca, token string) kuberesolver.K8sClient {
	authority, err := os.ReadFile(ca)
	if err != nil {
		fail(err)
	}
	secret, err := os.ReadFile(token)
	if err != nil {
		fail(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return &direct{api, strings.TrimSpace(string(secret)), &http.Client{Transport: transport}}
}
