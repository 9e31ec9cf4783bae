package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/sercand/kuberesolver/v6"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// What `make compare` runs in pods: the twins of tests/cluster/_programs, in Go, and with the same books.

const (
	load     = "drain.load.Load"
	every    = 500 * time.Millisecond
	deadline = 15 * time.Second
	step     = 1.05
	kept     = 20
)

// either is a codec for such messages, and for kubelet's probes.
type either struct{ raw }

func (either) Marshal(message any) ([]byte, error) {
	if known, ok := message.(proto.Message); ok {
		return proto.Marshal(known)
	}
	return raw{}.Marshal(message)
}

func (either) Unmarshal(data []byte, message any) error {
	if known, ok := message.(proto.Message); ok {
		return proto.Unmarshal(data, known)
	}
	return raw{}.Unmarshal(data, message)
}

// podServe answers with the pod's name, after a while. SIGTERM: health says NOT_SERVING, and GracefulStop.
func podServe(arguments []string) {
	flags := flag.NewFlagSet("pod-serve", flag.ExitOnError)
	work := flags.Duration("work", 10*time.Millisecond, "that a call takes")
	flags.Parse(arguments)
	name := []byte(os.Getenv("DRAIN_POD_NAME"))
	server := grpc.NewServer(grpc.ForceServerCodec(either{}))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: load, Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var asked []byte
			if err := decode(&asked); err != nil {
				return nil, err
			}
			time.Sleep(*work)
			return &name, nil
		},
	}}}, nil)
	healthy := health.NewServer()
	healthy.SetServingStatus("liveness", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, healthy)
	listener, err := net.Listen("tcp", ":50051")
	if err != nil {
		fail(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		healthy.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		server.GracefulStop()
	}()
	if err := server.Serve(listener); err != nil {
		fail(err)
	}
}

type failure struct {
	At      float64 `json:"at"`
	Code    string  `json:"code"`
	Details string  `json:"details"`
}

// podBooks is one line of `programs.call`.
type podBooks struct {
	lock    sync.Mutex
	At      float64            `json:"at"`
	Calls   int                `json:"calls"`
	Failed  int                `json:"failed"`
	Pods    map[string]int     `json:"pods"`
	First   map[string]float64 `json:"first"`
	Told    []failure          `json:"told"`
	Latency map[string]int     `json:"latency"`
	Final   bool               `json:"final"`
}

func today() float64 { return float64(time.Now().UnixNano()) / 1e9 }

func (b *podBooks) write(final bool) {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.At, b.Final = today(), final
	text, err := json.Marshal(b)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(text))
}

func (b *podBooks) note(pod []byte, err error, took time.Duration) {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.Calls++
	if err != nil {
		b.Failed++
		b.Told = append(b.Told, failure{today(), status.Code(err).String(), err.Error()})
		if len(b.Told) > kept {
			b.Told = b.Told[1:]
		}
		return
	}
	b.Pods[string(pod)]++
	if b.First[string(pod)] == 0 {
		b.First[string(pod)] = today()
	}
	b.Latency[strconv.Itoa(int(math.Ceil(math.Log(math.Max(took.Seconds(), 1e-6))/math.Log(step))))]++
}

// podCall calls until SIGTERM, with kuberesolver as its README has it.
func podCall(arguments []string) {
	flags := flag.NewFlagSet("pod-call", flag.ExitOnError)
	callers := flags.Int("callers", 16, "at once")
	pause := flags.Duration("pause", 20*time.Millisecond, "between one caller's calls")
	flags.Parse(arguments)
	kuberesolver.RegisterInCluster()
	connection, err := grpc.NewClient(flags.Arg(0),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(roundRobin),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		fail(err)
	}
	ended, over := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(ended, syscall.SIGTERM)
	books := &podBooks{Pods: map[string]int{}, First: map[string]float64{}, Told: []failure{}, Latency: map[string]int{}}
	var calling sync.WaitGroup
	for range *callers {
		calling.Go(func() {
			for {
				began, answer := time.Now(), []byte{}
				until, cancel := context.WithTimeout(context.Background(), deadline)
				err := connection.Invoke(until, "/"+load+"/Call", &[]byte{}, &answer)
				cancel()
				books.note(answer, err, time.Since(began))
				select {
				case <-over:
					return
				case <-time.After(*pause):
				}
			}
		})
	}
	telling := time.NewTicker(every)
	for {
		select {
		case <-telling.C:
			books.write(false)
		case <-ended:
			close(over)
			calling.Wait()
			books.write(true)
			return
		}
	}
}
