// The Go peer of the client's benches: servers to call, and grpc-go with kuberesolver to compare with.
//
//	peer serve 198.18.1.1:50051 ...             servers that note who came, and when
//	peer call --target kubernetes:///svc.ns:50051 --api https://127.0.0.1:6443 --ca FILE --token FILE
//	peer forward --to 127.0.0.1:6443 --delay 1ms
//	peer pod-serve, peer pod-call kubernetes:///svc:50051     in pods, for `make compare`; these write books, and take no orders
//
// It prints JSON lines and takes orders from stdin, as the Python processes of the bench do; the end of stdin ends it. All times
// are seconds of CLOCK_MONOTONIC, which is what Python's time.monotonic() reads: they can be compared between processes.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	parentGone = 70
	unary      = "/drain.bench.Bench/Unary"
)

var writing sync.Mutex

// emit prints one event. Safe for concurrent use.
func emit(event string, values map[string]any) {
	line := map[string]any{"event": event}
	for name, value := range values {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		fail(err)
	}
	writing.Lock()
	defer writing.Unlock()
	if _, err := os.Stdout.Write(append(text, '\n')); err != nil {
		os.Exit(parentGone)
	}
}

// obey takes orders until stdin ends, and then ends the process. An order is "WHAT TAG WORD ...".
func obey(take func(what, tag string, words []string)) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24) // 5,000 addresses are one order
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			fail(fmt.Errorf("order %q: must be WHAT TAG", lines.Text()))
		}
		take(words[0], words[1], words[2:])
	}
	os.Exit(parentGone)
}

func now() float64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		fail(err)
	}
	return float64(at.Sec) + float64(at.Nsec)/1e9
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// raw is a codec for messages that are bytes already.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "raw" }

func main() {
	parts := map[string]func([]string){
		"serve": serve, "call": call, "forward": forward, "pod-serve": podServe, "pod-call": podCall,
	}
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fail(fmt.Errorf("usage: peer serve | call | forward | pod-serve | pod-call"))
	}
	parts[os.Args[1]](os.Args[2:])
}
