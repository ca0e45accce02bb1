// One GET through the proxy and with the roots of the environment, as a Go program's default
// client makes it.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	request, err := http.NewRequest("GET", os.Args[1], nil)
	if err != nil {
		panic(err)
	}
	request.Header.Set("X-Api-Key", os.Getenv("KEY"))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(answer.Proto, answer.Status, answer.Header, string(body))
	if answer.StatusCode != 200 {
		os.Exit(1)
	}
}
