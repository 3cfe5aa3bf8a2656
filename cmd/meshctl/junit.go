package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// suite is a result as checks, for CI systems that read JUnit XML.
type suite struct {
	name  string
	took  time.Duration
	cases []testCase
}

// testCase is one check; class groups them.
type testCase struct {
	class, name string
	verdict     probes.Verdict
	summary     string
	hint        string
	took        time.Duration
}

// The elements of JUnit XML that every reader knows.
type (
	xmlSuites struct {
		XMLName xml.Name   `xml:"testsuites"`
		Suites  []xmlSuite `xml:"testsuite"`
	}
	xmlSuite struct {
		Name     string    `xml:"name,attr"`
		Tests    int       `xml:"tests,attr"`
		Failures int       `xml:"failures,attr"`
		Errors   int       `xml:"errors,attr"`
		Skipped  int       `xml:"skipped,attr"`
		Time     string    `xml:"time,attr"`
		Cases    []xmlCase `xml:"testcase"`
	}
	xmlCase struct {
		Class   string      `xml:"classname,attr"`
		Name    string      `xml:"name,attr"`
		Time    string      `xml:"time,attr"`
		Failure *xmlProblem `xml:"failure,omitempty"`
		Error   *xmlProblem `xml:"error,omitempty"`
		Skipped *xmlProblem `xml:"skipped,omitempty"`
		Out     string      `xml:"system-out,omitempty"`
	}
	xmlProblem struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes JUnit XML: a failed check is a failure, one that could not
// be determined an error. The encoder replaces what XML cannot hold.
func writeJUnit(out io.Writer, s suite) error {
	all := xmlSuite{Name: s.name, Tests: len(s.cases), Time: seconds(s.took)}
	for _, c := range s.cases {
		x := xmlCase{Class: c.class, Name: c.name, Time: seconds(c.took)}
		problem := &xmlProblem{Message: c.summary, Text: c.hint}
		switch c.verdict {
		case probes.Pass, probes.Warn:
			x.Out = fmt.Sprintf("%s: %s", c.verdict, c.summary)
		case probes.Fail:
			x.Failure = problem
			all.Failures++
		case probes.Skip:
			x.Skipped = problem
			all.Skipped++
		default:
			x.Error = problem
			all.Errors++
		}
		all.Cases = append(all.Cases, x)
	}
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	if err := encoder.Encode(xmlSuites{Suites: []xmlSuite{all}}); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
